"""An object that another host holds waits while that host is away; no peer is blamed for it."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

from dicom_node.delivery import Outgoing, PeerSender, Verdict
from dicom_node.errors import HostAwayError, ImageError, NodeError
from dicom_node.store import audit
from dicom_node.store.database import Database
from dicom_node.store.kept import KeptFile
from tests.factories import ManualClock
from tests.unit.delivery.test_sender import (
    RETRY,
    Scripted,
    clock,
    database,
    deliveries,
    said,
)

__all__ = ["clock", "database"]


class Remote:
    """Files of a host; the test says what is the matter with it."""

    def __init__(self) -> None:
        self.trouble: NodeError | None = None
        self.users: set[Hashable] = set()

    def path(self, kept: KeptFile, user: Hashable) -> Path:
        if self.trouble is not None:
            raise self.trouble
        self.users.add(user)
        return Path("/fetched") / kept.path

    def release(self, user: Hashable) -> None:
        self.users.discard(user)


def test_an_object_waits_for_its_host_without_an_attempt_and_is_sent_when_it_is_back(
    database: Database, clock: ManualClock
) -> None:
    files, sent = Remote(), []

    def script(item: Outgoing) -> object:
        sent.append(item.file)
        return said(Verdict.SENT)(item)

    one = PeerSender(
        "pacs",
        Scripted(script),  # type: ignore[arg-type]
        database=database,
        reports_dir=Path("/nowhere"),
        retry=RETRY,
        clock=clock,
        files=files,
    )
    files.trouble = HostAwayError("host ai", "it holds files and does not answer", "start it")
    # longer than a peer would be tried
    for _ in range(370):
        one.send_due()
        clock.move(10)
    assert {(d.state, d.attempts) for d in deliveries(database)} == {("pending", 0)}
    assert {d.answer for d in deliveries(database)} == {
        "host ai: it holds files and does not answer"
    }
    assert sent == []
    with database.read() as session:
        told = [e for e in audit.events_of(session, "1.2.3") if e.kind == "report_delayed"]
    assert len(told) == 2
    files.trouble = None
    assert one.send_due() == 2
    assert {d.state for d in deliveries(database)} == {"sent"}
    assert sent == [Path("/fetched/s/0.dcm"), Path("/fetched/s/1.dcm")]
    assert files.users == set()


def test_an_object_whose_file_is_lost_with_its_host_is_given_up(
    database: Database, clock: ManualClock
) -> None:
    files = Remote()
    files.trouble = ImageError("report 1", "host ai, which held it, was taken out", "run it again")
    one = PeerSender(
        "pacs",
        Scripted(said(Verdict.SENT)),
        database=database,
        reports_dir=Path("/nowhere"),
        retry=RETRY,
        clock=clock,
        files=files,
    )
    one.send_due()
    assert {(d.state, d.answer) for d in deliveries(database)} == {
        ("failed", "host ai, which held it, was taken out")
    }
