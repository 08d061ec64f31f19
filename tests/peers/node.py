"""The whole node as its users run it: `dicom-node serve` on free ports, Orthanc as its PACS."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dicom_node.config import load_config
from dicom_node.demo.orthanc import Orthanc
from dicom_node.demo.ports import free_port
from dicom_node.demo.routes import ROUTES
from dicom_node.store import overview
from dicom_node.store.database import Database
from tests.peers import dcmtk
from tests.peers.databases import OF_THE_RUN
from tests.peers.ports import wait_for

_ENDED = {"done", "not_evaluated", "failed"}

INFERENCE = {"device": "cpu", "threads": 1, "lease_seconds": 20, "selftest": False}
"""Without the self-test a node that is started again and again is soon at work."""


@dataclass(frozen=True)
class Stored:
    """An object in the PACS."""

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    modality: str
    orthanc_id: str


class Node:
    """A node in a folder of its own; may be killed and started again."""

    def __init__(
        self,
        folder: Path,
        pacs_port: int,
        *,
        routes: Sequence[Mapping[str, Any]] = ROUTES,
        quiet_seconds: float = 1,
        database_url: str | None = None,
        **sections: Any,
    ) -> None:
        self.port = free_port()
        self.config_file = folder / "node.yaml"
        self.log = folder / "node.log"
        config = {
            "node": {
                "ae_title": "AINODE",
                "host": "127.0.0.1",
                "port": self.port,
                "data_dir": "data",
                "min_free_mb": 1,
                # two nodes of one test have two databases, whatever the run is on
                "database_url": database_url or OF_THE_RUN.new_url(),
            },
            "peers": {
                "pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": pacs_port},
                "xray": {"ae_title": "STORESCU", "host": "127.0.0.1", "port": 104},
            },
            "accept_from": ["pacs", "xray"],
            "receive": {"reserve_mb": 8},
            "settle": {"quiet_seconds": quiet_seconds},
            "retry": {"first_seconds": 0.5, "longest_seconds": 2},
            "inference": dict(INFERENCE),
            "routes": [dict(route) for route in routes],
            **sections,
        }
        folder.mkdir(parents=True, exist_ok=True)
        self.config_file.write_text(yaml.safe_dump(config, sort_keys=False))
        self.config = load_config(self.config_file)
        self._process: subprocess.Popen[bytes] | None = None
        self._database: Database | None = None

    def start(self) -> None:
        """Start it and wait until it answers a C-ECHO."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dicom_node", "serve", "--config", str(self.config_file)],
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
        self.wait_until_it_answers()

    def wait_until_it_answers(self) -> None:
        def answers() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self.log.read_text()[-3000:]
            return dcmtk.echoscu(self.port, "-aec", "AINODE", "-aet", "STORESCU").returncode == 0

        wait_for("the node's answer to C-ECHO", answers, 180)

    def stop(self) -> int:
        """End it gently; returns its exit status."""
        if self._process is None:
            return 0
        self._process.terminate()
        status = self._process.wait(timeout=90)
        self._process = None
        return status

    def kill_all(self) -> None:
        """SIGKILL to the supervisor and every role at once, as when the power goes."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    @property
    def supervisor_pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def pid_of(self, role: str) -> int | None:
        """Return the process id of a role that runs now."""
        assert self._process is not None
        for pid in _children(self._process.pid):
            command = _command_of(pid)
            if "serve" in command and role in command:
                return pid
        return None

    def kill_role(self, role: str) -> int:
        """SIGKILL to one role; returns the process id that it had."""
        pid = wait_for(f"the {role}'s process", lambda: self.pid_of(role), 60)
        os.kill(pid, signal.SIGKILL)
        return pid

    def send(self, files: Iterable[Path], *options: str) -> subprocess.CompletedProcess[str]:
        """Send files by DCMTK, in the transfer syntax that they have."""
        return dcmtk.dcmsend(self.port, list(files), "-aec", "AINODE", "-aet", "STORESCU", *options)

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another `dicom-node` command on this node's configuration."""
        return subprocess.run(
            [sys.executable, "-m", "dicom_node", *arguments, "--config", str(self.config_file)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        )

    @property
    def database(self) -> Database:
        if self._database is None:
            self._database = Database(self.config.database_url)
        return self._database

    def studies(self) -> dict[str, overview.StudyLine]:
        """Return what the index says, by Study Instance UID."""
        with self.database.read() as session:
            return {line.study_uid: line for line in overview.studies(session, limit=1000)}

    def wait_for_studies(
        self, uids: Iterable[str], deadline: float = 120
    ) -> dict[str, overview.StudyLine]:
        """Wait until every named study has ended: no job open, every delivery sent or failed."""
        wanted = set(uids)

        def ended() -> dict[str, overview.StudyLine] | None:
            lines = self.studies()
            if not all(uid in lines and _has_ended(lines[uid]) for uid in wanted):
                return None
            return {uid: lines[uid] for uid in wanted}

        try:
            return wait_for(f"the end of {len(wanted)} studies", ended, deadline)
        except AssertionError as error:
            told = "\n".join(
                f"{line.study_uid}: {line.state} {[(j.state, j.error) for j in line.jobs]}"
                for line in self.studies().values()
            )
            raise AssertionError(f"{error}\n{told}\n{self.log.read_text()[-3000:]}") from error

    def close(self) -> None:
        self.stop()
        if self._database is not None:
            self._database.close()


def _has_ended(line: overview.StudyLine) -> bool:
    return (
        line.state == "settled"
        and (bool(line.jobs) or line.unrouted_reason is not None)
        and all(job.state in _ENDED for job in line.jobs)
        and all(d.state != "pending" for job in line.jobs for d in job.deliveries)
    )


@contextmanager
def running_node(folder: Path, pacs_port: int, **settings: Any) -> Iterator[Node]:
    """Start a node; it is stopped at the end."""
    node = Node(folder, pacs_port, **settings)
    try:
        node.start()
        yield node
    finally:
        node.close()


@contextmanager
def running_pacs(folder: Path, plugins: tuple[Path, ...] = ()) -> Iterator[Orthanc]:
    """Start Orthanc as the PACS."""
    with Orthanc(
        folder, ae_title="PACS", dicom_port=free_port(), http_port=free_port(), plugins=plugins
    ) as orthanc:
        yield orthanc


def stored(pacs: Orthanc) -> list[Stored]:
    """List every object in the PACS."""
    return [
        Stored(
            item["StudyInstanceUID"],
            item["SeriesInstanceUID"],
            item["SOPInstanceUID"],
            item.get("Modality", ""),
            item["ID"],
        )
        for item in pacs.instances()
    ]


def _children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "status").read_text()
            except OSError:
                continue
            match = re.search(r"^PPid:\s+(\d+)$", status, re.MULTILINE)
            if match and int(match.group(1)) == parent:
                found.append(int(entry.name))
    return found


def _command_of(pid: int) -> list[str]:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_text().split("\0")
    except OSError:
        return []
