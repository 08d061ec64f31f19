"""Two data folders on one database: the files of host `rx`, served to host `ai`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.config.hosts import HostsSection
from dicom_node.demo.ports import free_port
from dicom_node.hosts.client import HostClient
from dicom_node.hosts.files import Files
from dicom_node.hosts.server import FileServer
from dicom_node.model.states import JobState, StudyState
from dicom_node.store import hosts, jobs
from dicom_node.store.database import Database
from dicom_node.store.jobs import JobResult, NewJob, NewReport
from dicom_node.store.kept import KeptFile, KeptKind, kept_instance, kept_report
from dicom_node.store.spool import Spool
from dicom_node.store.tables import Instance, Report, Study
from dicom_node.studies.indexing import Indexer
from tests.factories import ManualClock, radiograph
from tests.peers.certificates import Certificates, make_certificates
from tests.peers.ports import listens, wait_for
from tests.unit.serve.small_node import put_into_inbox


@pytest.fixture(scope="package")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def section(tmp_path: Path, certificates: Certificates) -> HostsSection:
    token = tmp_path / "token"
    token.write_text("a secret of all hosts")
    return HostsSection(
        this_host="rx",
        address="127.0.0.1",
        listen="127.0.0.1",
        port=free_port(),
        certificate=certificates.server.certificate,
        key=certificates.server.key,
        ca=certificates.ca.certificate,
        token_file=token,
    )


class Rx:
    """The host that received an image and made a report, with its server."""

    def __init__(self, folder: Path, section: HostsSection, database: Database) -> None:
        self.section, self.database = section, database
        self.spool = Spool(folder / "spool")
        self.reports = folder / "reports"
        self.folders = {KeptKind.INSTANCE: self.spool.root, KeptKind.REPORT: self.reports}
        self.clock = ManualClock()
        self._server: FileServer | None = None
        with database.write() as session:
            hosts.register(session, "rx", "f" * 32, section.reached_at, self.clock.now())

    def start(self) -> None:
        self._server = FileServer(self.section, self.database, self.folders)
        self._server.start()
        wait_for("the server", lambda: listens(self.section.port))

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def receive(self) -> KeptFile:
        """Receive an image and index it."""
        put_into_inbox(self.spool, radiograph(study="1.2.3"))
        Indexer(self.database, self.spool, self.clock, host="rx").index_waiting()
        with self.database.read() as session:
            newest = select(Instance).order_by(Instance.id.desc()).limit(1)
            return kept_instance(session.scalars(newest).one())

    def make(self, content: bytes) -> KeptFile:
        """Make an object of a job on the study that was received."""
        self.reports.mkdir(exist_ok=True)
        (self.reports / "made.dcm").write_bytes(content)
        now = self.clock.now()
        with self.database.write() as session:
            study = session.scalars(select(Study)).one()
            study.state = StudyState.SETTLED
            jobs.enqueue(session, study, NewJob("tiny", "1", "w", ["1"], [], "route knees"), now)
            job = jobs.claim(session, "w", now, timedelta(seconds=9))
            assert job is not None
            sha256 = hashlib.sha256(content).hexdigest()
            report = NewReport("SR", "1", "1.1", "made.dcm", sha256, host="rx")
            jobs.finish(session, job.id, "w", JobResult(JobState.DONE, [report], []), now)
        with self.database.read() as session:
            return kept_report(session.scalars(select(Report)).one())

    def file(self, kept: KeptFile) -> Path:
        return self.folders[kept.kind] / kept.path


@pytest.fixture
def rx(tmp_path: Path, section: HostsSection, database: Database) -> Iterator[Rx]:
    host = Rx(tmp_path / "rx", section, database)
    host.start()
    yield host
    host.stop()


MakeFiles = Callable[..., Files]


@pytest.fixture
def make_files(tmp_path: Path, section: HostsSection, database: Database) -> Iterator[MakeFiles]:
    """The files of host `ai`, which has none of its own."""
    made: list[Files] = []

    def make(most_bytes: int = 2**30, **changes: object) -> Files:
        client = HostClient(section.model_copy(update=changes), database)
        folders = {kind: tmp_path / "ai" / kind for kind in KeptKind}
        made.append(Files(folders, "ai", client, tmp_path / "ai" / "fetched", most_bytes))
        return made[-1]

    yield make
    for files in made:
        files.close()
