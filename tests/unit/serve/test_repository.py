"""The audit repository gets every message once, in order, whatever happens to it in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dicom_node.demo.ports import free_port
from dicom_node.serve.repository import RepositorySender
from dicom_node.serve.sealing import Sealer
from dicom_node.store import audit
from dicom_node.store.database import Database
from dicom_node.store.watch_tables import REPOSITORY, AuditMark
from dicom_node.web.looking import tell_patients_shown
from tests.factories import ManualClock
from tests.peers.certificates import Certificates, make_certificates
from tests.peers.listening import SyslogReceiver, syslog_datagrams, syslog_stream
from tests.peers.ports import wait_for
from tests.unit.audit.schema import checked
from tests.unit.serve.small_node import config_in

Make = Callable[..., RepositorySender]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def sender(tmp_path: Path, database: Database, clock: ManualClock) -> Make:
    def make(**section: Any) -> RepositorySender:
        config = config_in(tmp_path, audit={"syslog": "127.0.0.1", "site": "Hospital", **section})
        assert config.audit is not None
        made = RepositorySender(config, config.audit, database, clock)
        made.begin()
        return made

    return make


@pytest.fixture
def happen(tmp_path: Path, database: Database, clock: ManualClock) -> Callable[[int], None]:
    """Record and seal some events that are told, and as many that are not."""
    sealer = Sealer(config_in(tmp_path), database, clock)
    number = iter(range(1000))

    def happen(times: int) -> None:
        with database.write() as session:
            for _ in range(times):
                uid = f"1.2.{next(number)}"
                audit.record(session, clock.now(), "study_settled", study_uid=uid)
                audit.record(
                    session, clock.now(), "instances_received", study_uid=uid, peer="XRAY", number=1
                )
        sealer.seal_audit_trail()

    return happen


def studies(receiver: SyslogReceiver) -> list[str]:
    """The study of each message; each must be a valid one in a valid frame."""
    found = []
    for line in receiver.messages:
        head, bom, text = line.partition(b"\xef\xbb\xbf")
        assert bom, line
        fields = head.decode("ascii").split(" ")
        assert fields[0] == "<85>1", "authorization, notice"
        assert fields[3] == "dicom-node"
        assert fields[5:] == ["DICOM+RFC3881", "-", ""]
        root = checked(text)
        found.append(root.find("ParticipantObjectIdentification").get("ParticipantObjectID"))
    return found


def test_messages_arrive_by_tls_in_order(
    sender: Make, happen: Callable[[int], None], certificates: Certificates
) -> None:
    with syslog_stream(certificates) as receiver:
        sending = sender(port=receiver.port, ca=str(certificates.ca.certificate))
        happen(3)
        assert sending.send_audit_messages() == 3
        assert sending.send_audit_messages() == 0
        happen(1)
        assert sending.send_audit_messages() == 1
        wait_for("all", lambda: len(receiver.messages) == 4)
    assert studies(receiver) == ["1.2.0", "1.2.1", "1.2.2", "1.2.3"]


def test_messages_arrive_by_udp(sender: Make, happen: Callable[[int], None]) -> None:
    with syslog_datagrams() as receiver:
        sending = sender(port=receiver.port, transport="udp")
        happen(2)
        assert sending.send_audit_messages() == 2
        wait_for("both", lambda: len(receiver.messages) == 2)
    assert studies(receiver) == ["1.2.0", "1.2.1"]


def test_a_long_list_of_patients_shown_fits_into_datagrams(
    sender: Make,
    happen: Callable[[int], None],
    database: Database,
    clock: ManualClock,
) -> None:
    context: Any = SimpleNamespace(database=database, clock=clock)
    caller: Any = SimpleNamespace(sees_patients=True, name="jane", address="10.0.0.9")
    shown = [f"1.2.{'3' * 56}.1{number:03}" for number in range(500)]
    with syslog_datagrams() as receiver:
        sending = sender(port=receiver.port, transport="udp")
        tell_patients_shown(context, caller, shown)
        happen(1)
        number = sending.send_audit_messages()
        wait_for("all", lambda: len(receiver.messages) == number)
    assert studies(receiver) == [*shown[::100], "1.2.0"]
    with database.read() as session:
        assert session.get_one(AuditMark, REPOSITORY).trouble is None


def test_nothing_is_lost_while_the_repository_is_away(
    sender: Make, happen: Callable[[int], None], database: Database, clock: ManualClock
) -> None:
    port = free_port()
    sending = sender(port=port, transport="tcp")
    happen(2)
    assert sending.send_audit_messages() == 0
    with database.read() as session:
        mark = session.get_one(AuditMark, REPOSITORY)
    assert (mark.position, mark.failures) == (0, 1)
    assert mark.trouble
    with syslog_stream() as receiver:
        again = sender(port=receiver.port, transport="tcp")
        assert again.send_audit_messages() == 0, "it waits before it tries again"
        clock.move(6)
        assert again.send_audit_messages() == 2
        wait_for("both", lambda: len(receiver.messages) == 2)
    assert studies(receiver) == ["1.2.0", "1.2.1"]
    with database.read() as session:
        mark = session.get_one(AuditMark, REPOSITORY)
    assert (mark.failures, mark.trouble) == (0, None)


def test_a_repository_that_breaks_off_gets_the_same_again(
    sender: Make, happen: Callable[[int], None], clock: ManualClock, certificates: Certificates
) -> None:
    with syslog_stream(certificates) as receiver:
        sending = sender(port=receiver.port, ca=str(certificates.ca.certificate))
        happen(2)
        receiver.deaf = True
        assert sending.send_audit_messages() == 0
        receiver.deaf = False
        clock.move(3600)
        assert sending.send_audit_messages() == 2
        wait_for("both", lambda: len(receiver.messages) == 2)
    assert studies(receiver) == ["1.2.0", "1.2.1"]


def test_what_was_before_the_repository_is_not_sent(
    sender: Make, happen: Callable[[int], None]
) -> None:
    happen(5)
    with syslog_datagrams() as receiver:
        sending = sender(port=receiver.port, transport="udp")
        happen(1)
        assert sending.send_audit_messages() == 1
        wait_for("one", lambda: receiver.messages)
    assert studies(receiver) == ["1.2.5"]
