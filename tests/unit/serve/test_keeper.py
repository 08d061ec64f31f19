"""Hosts with a data folder each: what the keeper does there, and what the coordinator waits for."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import FileDataset
from sqlalchemy import select

from dicom_node.config import NodeConfig
from dicom_node.delivery import RetryStrategy
from dicom_node.demo.ports import free_port
from dicom_node.errors import StoreError
from dicom_node.model.commitment import CommitmentRequest, CommitmentState, Reference
from dicom_node.model.states import JobState, StudyState
from dicom_node.serve.alerting import Alerting
from dicom_node.serve.commitment import CommitmentDesk
from dicom_node.serve.coordinator import Coordinator
from dicom_node.serve.keeper import Keeper
from dicom_node.serve.sharing import files_of
from dicom_node.serve.situation import situation
from dicom_node.store import commitments, hosts, index
from dicom_node.store.alerts import alerts_firing
from dicom_node.store.database import Database
from dicom_node.store.spool import Spool
from dicom_node.store.tables import Commitment, Instance, Job, Study
from dicom_node.studies.indexing import Indexer
from tests.factories import ManualClock, radiograph, report_row
from tests.peers.certificates import Certificates, make_certificates
from tests.peers.ports import listens, wait_for
from tests.unit.serve.small_node import QUIET, bundle, config_in, put_into_inbox, the_study


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


class Host:
    """One host of a node, with its keeper."""

    def __init__(
        self,
        folder: Path,
        database: Database,
        clock: ManualClock,
        certificates: Certificates,
        **sections: Any,
    ) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "token").write_text("a secret of all hosts")
        self.config: NodeConfig = config_in(
            folder,
            hosts={
                "this_host": folder.name,
                "address": "127.0.0.1",
                "listen": "127.0.0.1",
                "port": free_port(),
                "certificate": str(certificates.server.certificate),
                "key": str(certificates.server.key),
                "ca": str(certificates.ca.certificate),
                "token_file": "token",
            },
            **sections,
        )
        assert self.config.hosts is not None
        self.port = self.config.hosts.port
        self.database, self.clock = database, clock
        self.spool = Spool(self.config.spool_dir)
        self.keeper = Keeper(self.config, self.config.hosts, database, self.spool, clock)
        self.stop = threading.Event()

    def receive(self, image: FileDataset) -> None:
        """Acknowledge an image now; it is not indexed yet."""
        now = self.clock.now().timestamp()
        os.utime(put_into_inbox(self.spool, image), (now, now))

    def run(self) -> threading.Thread:
        """Let the keeper work, until `stop`."""
        thread = threading.Thread(target=self.keeper.run, args=(self.stop,))
        thread.start()
        wait_for("its files to be served", lambda: listens(self.port))
        return thread


@pytest.fixture
def make(
    tmp_path: Path, database: Database, clock: ManualClock, certificates: Certificates
) -> Iterator[Any]:
    made: list[tuple[Host, threading.Thread]] = []

    def one(name: str, *, running: bool = False, **sections: Any) -> Host:
        host = Host(tmp_path / name, database, clock, certificates, **sections)
        host.keeper.begin()
        if running:
            made.append((host, host.run()))
        return host

    yield one
    for host, thread in made:
        host.stop.set()
        thread.join()


def holders(database: Database) -> set[str | None]:
    with database.read() as session:
        return set(session.scalars(select(Instance.host)))


def test_a_keeper_indexes_its_own_spool_and_says_how_far_it_is(
    make: Any, database: Database, clock: ManualClock
) -> None:
    rx = make("rx")
    rx.receive(radiograph(study="1.2.3"))
    rx.keeper.report()
    assert holders(database) == {"rx"}
    with database.read() as session:
        (line,) = hosts.lines(session)
    assert (line.indexed_to, line.state.receives, line.state.waiting) == (clock.now(), True, 0)
    assert line.state.roles_down == ()


def test_a_running_keeper_keeps_time(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rx = make("rx")
    monkeypatch.setattr(rx.keeper._timetable, "keep_time", rx.stop.set)
    rx.keeper.run(rx.stop)
    assert rx.stop.is_set()


def test_a_host_that_cannot_read_what_waits_is_there_all_the_same(
    make: Any, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    rx = make("rx")
    rx.receive(radiograph(study="1.2.3"))

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "x")

    with database.read() as session:
        (before,) = hosts.lines(session)
    monkeypatch.setattr(Spool, "finish", fails)
    rx.clock.move(60)
    rx.keeper.report()
    with database.read() as session:
        (line,) = hosts.lines(session)
    assert (line.heard_at, line.state.waiting) == (rx.clock.now(), 1)
    assert line.indexed_to == before.indexed_to


def test_files_of_the_one_folder_of_before_are_the_hosts_that_has_them(
    make: Any, database: Database, tmp_path: Path, clock: ManualClock
) -> None:
    spool = Spool(tmp_path / "first" / "data" / "spool")
    for _ in range(2):
        put_into_inbox(spool, radiograph(study="1.2.3"))
    Indexer(database, spool, clock).index_waiting()
    make("second")
    assert holders(database) == {None}
    make("first")
    assert holders(database) == {"first"}


def test_a_copied_data_folder_cannot_be_two_hosts_and_a_new_one_not_the_old(
    make: Any, tmp_path: Path
) -> None:
    make("rx")
    (tmp_path / "rx" / "data" / "host-id").unlink()
    with pytest.raises(StoreError, match="host rx: another data folder"):
        make("rx")
    (tmp_path / "rx" / "data" / "host-id").write_text("torn")
    with pytest.raises(StoreError, match="host-id"):
        make("rx")


def test_a_host_that_ends_in_order_and_holds_nothing_is_not_missed(
    make: Any, database: Database
) -> None:
    empty, full = make("empty"), make("full")
    full.receive(radiograph(study="1.2.3"))
    empty.keeper.end()
    full.keeper.end()
    with database.read() as session:
        assert [line.name for line in hosts.lines(session)] == ["full"]
    full.keeper.report()
    full.keeper.end()
    with database.read() as session:
        assert [line.name for line in hosts.lines(session)] == ["full"]


def test_a_host_that_was_forgotten_and_lives_is_taken_in_again(
    make: Any, database: Database, clock: ManualClock
) -> None:
    rx = make("rx")
    rx.receive(radiograph(study="1.2.3"))
    rx.keeper.report()
    with database.write() as session:
        assert hosts.forget(session, "rx", clock.now()) == hosts.Held(files=1, studies=1)
    rx.keeper.report()
    with database.read() as session:
        assert [line.name for line in hosts.lines(session)] == ["rx"]


def test_the_coordinator_settles_a_study_when_every_host_has_indexed_and_not_before(
    make: Any, database: Database, clock: ManualClock, tmp_path: Path
) -> None:
    one, two, ai = make("rx-1"), make("rx-2"), make("ai")
    ai.keeper.report()
    coordinator = Coordinator(ai.config, {"tiny": bundle(tmp_path)}, database, ai.spool, clock)
    for host in (one, two):
        host.receive(radiograph(study="1.2.3"))
    one.keeper.report()
    clock.move(2 * QUIET)
    one.keeper.report()
    ai.receive(radiograph(study="1.2.4"))
    coordinator.settle_and_route()
    assert the_study(database, "1.2.3").state == StudyState.RECEIVING
    assert holders(database) == {"rx-1"}  # the coordinator looks into nobody's spool
    two.keeper.report()
    assert the_study(database, "1.2.3").state == StudyState.RECEIVING
    clock.move(QUIET)
    for host in (one, two):
        host.keeper.report()
    coordinator.settle_and_route()
    study = the_study(database, "1.2.3")
    assert study.state == StudyState.SETTLED
    with database.read() as session:
        assert len(index.facts_of_study(session, study)) == 2


def test_a_host_that_stays_away_does_not_hold_up_a_study_for_ever(
    make: Any, database: Database, clock: ManualClock, tmp_path: Path
) -> None:
    one, two = make("rx-1"), make("rx-2")
    coordinator = Coordinator(one.config, {"tiny": bundle(tmp_path)}, database, one.spool, clock)
    for host in (one, two):
        host.receive(radiograph(study="1.2.3"))
    with database.write() as session:
        state = hosts.HostState(receives=True)
        hosts.heard(session, "rx-2", clock.now(), clock.now() - timedelta(seconds=1), state)
    one.keeper.report()
    clock.move(QUIET + one.config.settle.longest_wait_seconds - 1)
    one.keeper.report()
    coordinator.settle_and_route()
    assert the_study(database, "1.2.3").state == StudyState.RECEIVING
    clock.move(1)
    coordinator.settle_and_route()
    assert the_study(database, "1.2.3").state == StudyState.SETTLED


def test_a_host_that_is_away_is_a_need_and_an_alert(
    make: Any, database: Database, clock: ManualClock
) -> None:
    rx, ai = make("rx"), make("ai", alerts={"rules": {"host_down": {"for_minutes": 0}}})
    rx.receive(radiograph(study="1.2.3"))
    rx.keeper.report()
    clock.move(31)
    ai.keeper.report()
    Alerting(ai.config, database, clock).watch()
    with database.read() as session:
        (firing,) = [line for line in alerts_firing(session) if line.rule == "host_down"]
        found = situation(ai.config, session, clock.now())
    assert "Host rx does not answer" in firing.text
    assert "files of 1 study" in firing.text
    assert [need.title for need in found.needs].count("Host rx does not answer") == 1


def request(image: Any, uid: str) -> CommitmentRequest:
    reference = Reference(str(image.SOPClassUID), str(image.SOPInstanceUID))
    return CommitmentRequest(uid, "XRAY", "AINODE", [reference])


def test_storage_commitment_is_promised_by_who_holds_the_file(
    make: Any, database: Database, clock: ManualClock
) -> None:
    rx, ai = make("rx"), make("ai")
    files = files_of(ai.config, database)
    retry = RetryStrategy(timedelta(seconds=1), timedelta(seconds=1), timedelta(hours=1))
    desk = CommitmentDesk(ai.config, database, int, retry, clock, files)
    image = radiograph(study="1.2.3")
    rx.receive(image)

    def ask(uid: str) -> Commitment:
        with database.write() as session:
            held = timedelta(0)
            commitments.take(session, request(image, uid), clock.now(), held)
        return state_of(uid)

    def state_of(uid: str) -> Commitment:
        with database.read() as session:
            row = commitments.find(session, "XRAY", uid)
            assert row is not None
            return row

    with database.write() as session:
        before = clock.now() - timedelta(seconds=1)
        state = hosts.HostState(receives=True)
        hosts.heard(session, "rx", clock.now(), before, state)
    ask("1.1")
    desk.verify_commitments()
    # it may lie in the inbox of the other host
    assert state_of("1.1").state == CommitmentState.REQUESTED
    rx.keeper.report()
    desk.verify_commitments()
    # the host that holds it does not answer
    assert state_of("1.1").state == CommitmentState.REQUESTED
    thread = rx.run()
    try:
        wait_for(
            "the promise",
            lambda: desk.verify_commitments() or state_of("1.1").state == CommitmentState.VERIFIED,
            30,
        )
        assert state_of("1.1").failed == []
        (file,) = rx.config.spool_dir.glob("studies/*/*/*.dcm")
        file.write_bytes(file.read_bytes()[:-1] + b"!")
        ask("1.2")
        desk.verify_commitments()
        assert len(state_of("1.2").failed or []) == 1
    finally:
        rx.stop.set()
        thread.join()
        files.close()


def test_a_keeper_removes_what_another_host_has_a_newer_copy_of(
    make: Any, database: Database
) -> None:
    one, two = make("rx-1"), make("rx-2")
    image = radiograph(study="1.2.3")
    for host in (one, two):
        host.receive(image)
        host.keeper.report()

    def files(host: Host) -> int:
        return len(list(host.config.spool_dir.glob("studies/*/*/*.dcm")))

    assert (holders(database), files(one), files(two)) == ({"rx-2"}, 1, 1)
    one.keeper._retention.purge_by_age()
    two.keeper._retention.purge_by_age()
    assert (files(one), files(two)) == (0, 1)
    # it comes to the first once more
    one.receive(image)
    one.keeper.report()
    assert (holders(database), files(one)) == ({"rx-1"}, 1)


def test_an_object_that_a_worker_has_just_written_is_not_taken_for_an_old_copy(
    make: Any, database: Database
) -> None:
    ai = make("ai")
    ai.receive(radiograph(study="1.2.3"))
    ai.keeper.report()
    now = ai.clock.now()
    with database.write() as session:
        study = session.scalars(select(Study)).one()
        job = Job(
            study=study,
            pipeline="tiny",
            version="1",
            input_key="k",
            state=JobState.DONE,
            inputs=[],
            peers=[],
            reason="",
            queued_at=now,
        )
        session.add(job)
        session.flush()
        report_row(session, job.id, now, path="1.2.3/1.1.dcm", host="other")
    # the job runs again here; the index does not know it yet
    made = ai.config.reports_dir / "1.2.3" / "1.1.dcm"
    made.parent.mkdir(parents=True)
    made.write_bytes(b"a report")
    ai.keeper._retention.purge_by_age()
    assert made.exists()
    os.utime(made, (0, 0))
    ai.keeper._retention.purge_by_age()
    assert not made.exists()
