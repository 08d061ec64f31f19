"""kill -9 of the receiver while images come: each that was acknowledged is there, whole."""

from __future__ import annotations

import os
import random
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import generate_uid

from dicom_node.store.seal import dataset_sha256, is_whole
from dicom_node.store.spool import Spool
from tests.factories import ct_slice
from tests.integration.receiver_process import ReceiverProcess, receiver_process
from tests.peers.dcmtk import ENVIRONMENT, program
from tests.peers.ports import wait_for

KILLS = int(os.environ.get("DICOM_NODE_KILLS", "10"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, str]:
    """Files to send, with their SOP Instance UIDs."""
    folder = tmp_path_factory.mktemp("images")
    pixels = np.arange(256 * 256, dtype=np.uint16).reshape(256, 256)
    study, series = generate_uid(), generate_uid()
    files = {}
    for number in range(60):
        image = ct_slice(pixels, float(number), study=study, series=series, number=number + 1)
        file = folder / f"{number:03}.dcm"
        image.save_as(file, enforce_file_format=True)
        files[file] = str(image.SOPInstanceUID)
    return files


def start_sending(
    receiver: ReceiverProcess, files: list[Path], log: Path
) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(
            [program("storescu"), "-v", "-aec", "AINODE", "127.0.0.1", str(receiver.port)]
            + [str(file) for file in files],
            env=ENVIRONMENT,
            stdout=out,
            stderr=subprocess.STDOUT,
        )


def acknowledged(log: Path) -> list[Path]:
    """The files that storescu was told are kept, by its own log."""
    sent: list[Path] = []
    current = Path()
    for line in log.read_text(errors="replace").splitlines():
        if found := re.search(r"Sending file: (\S+)", line):
            current = Path(found[1])
        elif "Received Store Response (Success)" in line:
            sent.append(current)
    return sent


def test_every_acknowledged_image_survives_a_kill_at_a_random_moment(
    tmp_path: Path, images: dict[Path, str]
) -> None:
    chance = random.Random(20261121)
    files = list(images)
    told: set[str] = set()
    for round_number in range(KILLS):
        with receiver_process(tmp_path) as receiver:
            log = tmp_path / f"sender-{round_number}.log"
            sender = start_sending(receiver, files, log)
            enough = chance.randrange(len(files))
            wait_for("images to come", lambda n=enough, to=log: len(acknowledged(to)) >= n)
            receiver.kill()
            sender.wait(timeout=60)
        told |= {images[file] for file in acknowledged(log)}
        spool = Spool(tmp_path / "spool")
        spool.clean_up()
        waiting = spool.waiting()
        assert all(is_whole(file) for file in waiting)
        kept = {dataset_sha256(file) for file in waiting}
        missing = {f.name for f in acknowledged(log) if dataset_sha256(f) not in kept}
        assert not missing
        assert list((spool.root / "incoming").iterdir()) == []
    assert told


def test_a_terminated_receiver_finishes_the_image_in_hand_and_ends(
    tmp_path: Path, images: dict[Path, str]
) -> None:
    with receiver_process(tmp_path) as receiver:
        log = tmp_path / "sender.log"
        sender = start_sending(receiver, list(images), log)
        wait_for("images to come", lambda: len(acknowledged(log)) >= 5)
        assert receiver.terminate() == 0
        sender.wait(timeout=60)
        spool = Spool(tmp_path / "spool")
        assert list((spool.root / "incoming").iterdir()) == []
        # an image may have been kept whose answer was lost, never the other way round
        assert 0 <= len(spool.waiting()) - len(acknowledged(log)) <= 1
        assert "receiver_listens" in receiver.log.read_text()
        assert "Phantom" not in receiver.log.read_text()
