"""The crash storm: python -m tests.faults.storm --studies 200

Four modalities send studies to a node while everything around them breaks, at random moments: the
receiver, the worker and the coordinator (which sends the reports) are killed, the whole node is,
a modality is, Orthanc is, the network of a second Orthanc is cut, the disk is full for a while. At
the end every acknowledged study must have exactly one SR and one SC of each of two pipelines in
each of the two archives, and the audit trail must account for it. Prints the counts.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import generate_uid
from sqlalchemy import select

from dicom_node.demo.orthanc import Orthanc
from dicom_node.store.tables import AuditEvent, Instance
from tests.factories import radiograph
from tests.peers import dcmtk
from tests.peers.disk import OWN_NAMESPACE, SmallDisk, small_disk
from tests.peers.network import Network, network_to
from tests.peers.node import Node, running_pacs
from tests.unit.inference.tiny_bundles import write_bundle

SENDERS = 4
PIPELINES = {"bright-one": 9700, "bright-two": 9750}
ARCHIVES = ("pacs", "far")
_KINDS = ("SR", "OT")
_DISK_MB_EACH = 12
_INSIDE = "DICOM_NODE_STORM_INSIDE"
"""Set once we run in a mount namespace of our own."""


@dataclass
class Counts:
    """What the storm did and what was found after it.

    Attributes:
        struck: How often each fault struck.
        missing, double: Objects by archive, study and kind that are not there, or more than once.
        given_up: Studies whose images retention removed as the disk was full, and said so: it may
            when all their reports are delivered.
        unaccounted: Studies whose audit trail lacks something, with what.
    """

    studies: int
    seed: int
    name: str = "crash storm"
    acknowledged: int = 0
    struck: Counter[str] = field(default_factory=Counter)
    interrupted_sendings: int = 0
    objects: Counter[str] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)
    double: list[str] = field(default_factory=list)
    lost_images: list[str] = field(default_factory=list)
    given_up: int = 0
    unaccounted: list[str] = field(default_factory=list)
    seconds: float = 0

    def __str__(self) -> str:
        strikes = ", ".join(f"{name} {number}" for name, number in sorted(self.struck.items()))
        objects = ", ".join(f"{name} {number}" for name, number in sorted(self.objects.items()))
        return "\n".join(
            (
                f"{self.name} of seed {self.seed}: {self.studies} studies in {self.seconds:.0f} s",
                f"struck: {strikes}",
                f"sendings that were broken off and repeated: {self.interrupted_sendings}",
                f"acknowledged: {self.acknowledged}; images lost: {len(self.lost_images)}, "
                f"given up for the full disk after delivery: {self.given_up}",
                f"objects in the archives: {objects}",
                f"missing: {len(self.missing)}, double: {len(self.double)}, "
                f"studies that the audit trail does not account for: {len(self.unaccounted)}",
            )
        )


class Modality(threading.Thread):
    """Sends its studies one by one, each until it is acknowledged."""

    def __init__(self, title: str, port: int, files: list[Path], pause: float) -> None:
        super().__init__(name=title, daemon=True)
        self.acknowledged: list[Path] = []
        self.broken_off = 0
        self._title = title
        self._port = port
        self._waiting = list(files)
        self._pause = pause
        self._process: subprocess.Popen[bytes] | None = None
        self._halt = threading.Event()

    def run(self) -> None:
        while self._waiting and not self._halt.is_set():
            file = self._waiting.pop(0)
            titles = ("-aet", self._title, "-aec", "AINODE")
            # not dcmsend, which ends with 0 when its image was refused
            with subprocess.Popen(
                [dcmtk.program("storescu"), *titles, "127.0.0.1", str(self._port), str(file)],
                env=dcmtk.ENVIRONMENT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as process:
                self._process = process
            if process.returncode == 0:
                self.acknowledged.append(file)
                self._halt.wait(self._pause)
            else:
                self.broken_off += 1
                self._waiting.append(file)
                self._halt.wait(0.3)

    def kill(self, patience: float = 0) -> None:
        """SIGKILL to the sending program, the next one within `patience` seconds if none runs."""
        end = time.monotonic() + patience
        while (process := self._process) is None or process.poll() is not None:
            if time.monotonic() >= end or not self.is_alive():
                return
        process.kill()

    def halt(self) -> None:
        self._halt.set()
        self.kill()
        self.join()


@contextlib.contextmanager
def _surroundings(
    folder: Path, studies: int
) -> Iterator[tuple[Node, SmallDisk, dict[str, Orthanc], Network]]:
    for name, number in PIPELINES.items():
        write_bundle(folder / "pipelines", name, title=name, series_number=number)
    with (
        running_pacs(folder / "pacs") as pacs,
        running_pacs(folder / "far") as far,
        network_to(far.dicom_port) as network,
        small_disk(folder / "node" / "data", 256 + _DISK_MB_EACH * studies) as disk,
    ):
        node = Node(
            folder / "node",
            pacs.dicom_port,
            routes=[
                {
                    "name": "all radiographs",
                    "when": {"modality": ["CR", "DX"]},
                    "run": list(PIPELINES),
                    "send_to": list(ARCHIVES),
                }
            ],
            peers={
                "pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": pacs.dicom_port},
                "far": {"ae_title": "FAR", "host": "127.0.0.1", "port": network.port},
            },
            accept_from="anyone",
            pipelines_path=[str(folder / "pipelines")],
            inference={
                "device": "cpu",
                "threads": 1,
                "attempts": 1000,
                "lease_seconds": 10,
                "quarantine_after": 0,
            },
        )
        try:
            node.start()
            yield node, disk, {"pacs": pacs, "far": far}, network
        finally:
            network.mend()
            disk.empty()
            node.close()


@contextlib.contextmanager
def sending_modalities(
    port: int, files: Mapping[str, Path], pause: float, counts: Counts
) -> Iterator[list[Modality]]:
    """Modalities that send the films by turns; at the end stopped and counted."""
    modalities = [
        Modality(f"MODALITY{number}", port, list(files.values())[number::SENDERS], pause)
        for number in range(SENDERS)
    ]
    for modality in modalities:
        modality.start()
    try:
        yield modalities
    finally:
        for modality in modalities:
            modality.halt()
    counts.acknowledged = sum(len(modality.acknowledged) for modality in modalities)
    counts.interrupted_sendings = sum(modality.broken_off for modality in modalities)


def storm(folder: Path, studies: int, seed: int, pause: float) -> Counts:
    """Let it loose.

    Args:
        pause: Seconds between two studies of a modality.
    """
    counts = Counts(studies, seed)
    chance = random.Random(seed)
    files = films(folder / "films", studies, seed)
    begin = time.monotonic()
    with _surroundings(folder, studies) as (node, disk, archives, network):
        with sending_modalities(node.port, files, pause, counts) as modalities:
            _strike(node, disk, archives["pacs"], network, modalities, chance, counts.struck)
        node.wait_for_studies(files, deadline=900)
        take_stock(node, archives, files, counts)
    counts.seconds = time.monotonic() - begin
    return counts


def _strike(
    node: Node,
    disk: SmallDisk,
    pacs: Orthanc,
    network: Network,
    modalities: list[Modality],
    chance: random.Random,
    struck: Counter[str],
) -> None:
    """Break things until every study is acknowledged, each thing twice at least."""
    moment = threading.Event()

    def for_a_while(begin: Callable[[], object], end: Callable[[], object], most: float) -> None:
        begin()
        moment.wait(chance.uniform(1, most))
        end()

    def power_cut() -> None:
        node.kill_all()
        node.start()

    def pacs_crash() -> None:
        for_a_while(lambda: pacs.stop(kill=True), pacs.start, 4)

    faults: dict[str, Callable[[], Any]] = {
        "receiver killed": lambda: node.kill_role("receiver"),
        "worker killed": lambda: node.kill_role("worker"),
        "coordinator killed": lambda: node.kill_role("coordinator"),
        "node killed": power_cut,
        "sender killed": lambda: chance.choice(modalities).kill(patience=5),
        "PACS killed": pacs_crash,
        "network cut": lambda: for_a_while(network.cut, network.mend, 6),
        "disk full": lambda: for_a_while(disk.fill, disk.empty, 5),
    }
    while True:
        order = list(faults)
        chance.shuffle(order)
        for name in order:
            sending = any(modality.is_alive() for modality in modalities)
            if not sending and min(struck[fault] for fault in faults) >= 2:
                return
            moment.wait(chance.uniform(0.2, 3))
            faults[name]()
            struck[name] += 1


def films(folder: Path, number: int, seed: int) -> dict[str, Path]:
    """Write studies of one small radiograph; returns their files by Study Instance UID."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(seed)
    written = {}
    for _ in range(number):
        uid = generate_uid()
        pixels = noise.integers(0, 4000, (256, 192)).astype(np.uint16)
        written[uid] = folder / f"{uid}.dcm"
        radiograph(pixels, study=uid).save_as(written[uid], enforce_file_format=True)
    return written


def take_stock(
    node: Node, archives: dict[str, Orthanc], files: dict[str, Path], counts: Counts
) -> None:
    """Count what is in the archives, in the spool and in the audit trail, against what was sent."""
    for name, archive in archives.items():
        there: Counter[tuple[str, str, str]] = Counter()
        for item in archive.instances():
            there[
                item["StudyInstanceUID"], item["Modality"], item.get("SeriesDescription", "")
            ] += 1
            counts.objects[f"{name} {item['Modality']}"] += 1
        for study in files:
            for pipeline in PIPELINES:
                for kind in _KINDS:
                    number = sum(
                        found
                        for (uid, modality, title), found in there.items()
                        if (uid, modality) == (study, kind) and pipeline in title
                    )
                    if number != 1:
                        where = counts.double if number else counts.missing
                        where.append(f"{name}: {kind} of {pipeline} for {study}: {number}")
    sendings = len(PIPELINES) * len(_KINDS) * len(archives)
    with node.database.read() as session:
        paths = {
            item.study.study_instance_uid: node.config.node.data_dir / "spool" / item.path
            for item in session.scalars(select(Instance)).all()
        }
        trail: dict[str, Counter[str]] = {study: Counter() for study in files}
        given_up: set[str] = set()
        events = select(AuditEvent).where(AuditEvent.study_uid.is_not(None))
        for event in session.scalars(events.order_by(AuditEvent.id)):
            study = str(event.study_uid)
            trail[study][event.kind] += 1
            if (
                event.kind == "images_purged"
                and event.data["why"] == "disk low"
                and trail[study]["report_sent"] == sendings
            ):
                given_up.add(study)
    for study, file in files.items():
        path = paths.get(study)
        if study in given_up:
            counts.given_up += 1
        elif (
            path is None
            or not path.exists()
            or path.read_bytes()[-4096:] != file.read_bytes()[-4096:]
        ):
            counts.lost_images.append(study)
        expected = {
            "study_settled": 1,
            "job_finished": len(PIPELINES),
            "report_sent": sendings,
        }
        wrong = {
            kind: trail[study][kind] for kind, n in expected.items() if trail[study][kind] != n
        }
        if wrong or not trail[study]["instances_received"]:
            counts.unaccounted.append(f"{study}: {wrong or 'never received'}")


def _ourselves() -> list[str]:
    return [sys.executable, "-m", "tests.faults.storm", *sys.argv[1:]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--pause", type=float, default=2.0, help="between a modality's studies")
    options = parser.parse_args()
    if _INSIDE not in os.environ:
        os.environ[_INSIDE] = "1"
        os.execvp(OWN_NAMESPACE[0], [*OWN_NAMESPACE, *_ourselves()])
    with tempfile.TemporaryDirectory(prefix="storm-") as folder:
        counts = storm(Path(folder), options.studies, options.seed, options.pause)
    print(counts)
    wrong = (*counts.missing, *counts.double, *counts.lost_images, *counts.unaccounted)
    for line in wrong:
        print(line, file=sys.stderr)
    return bool(wrong) or counts.acknowledged != counts.studies or min(counts.struck.values()) < 2


if __name__ == "__main__":
    raise SystemExit(main())
