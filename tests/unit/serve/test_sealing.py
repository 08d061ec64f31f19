"""The audit trail is sealed as it grows; its head is noted outside of the database."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from dicom_node.config import NodeConfig
from dicom_node.serve import sealing
from dicom_node.serve.sealing import Sealer, head_file, noted_head
from dicom_node.store import audit, chain
from dicom_node.store.chain import Link
from dicom_node.store.database import Database
from dicom_node.store.tables import AuditEvent
from dicom_node.store.watch_tables import AuditSeal
from tests.factories import ManualClock
from tests.unit.serve.small_node import config_in


@pytest.fixture
def config(tmp_path: Path) -> NodeConfig:
    return config_in(tmp_path)


@pytest.fixture
def sealer(config: NodeConfig, database: Database, clock: ManualClock) -> Sealer:
    return Sealer(config, database, clock)


def record(database: Database, number: int, kind: str = "study_settled") -> None:
    with database.write() as session:
        for _ in range(number):
            audit.record(session, ManualClock().now(), kind, study_uid="1.2.3")


def cut_off(database: Database, after: int) -> None:
    with database.write() as session:
        session.execute(delete(AuditEvent).where(AuditEvent.id > after))
        session.execute(delete(AuditSeal).where(AuditSeal.position > after))


def test_what_is_new_is_sealed_and_the_head_is_noted(
    sealer: Sealer, config: NodeConfig, database: Database
) -> None:
    record(database, 1203)
    assert sealer.seal_audit_trail() == 1203, "also what was there before the first start"
    with database.read() as session:
        head = chain.head(session)
    assert head.position == 1203
    assert noted_head(config) == head
    assert sealer.seal_audit_trail() == 0
    assert sealing.verify(config, database, ManualClock().now()).whole
    assert sealer.broken() == ""


def test_a_tail_that_was_cut_off_is_told_and_the_note_stays_as_evidence(
    sealer: Sealer, config: NodeConfig, database: Database
) -> None:
    record(database, 10)
    sealer.seal_audit_trail()
    noted = noted_head(config)
    cut_off(database, 6)
    record(database, 1, "study_held")
    sealer.seal_audit_trail()
    assert "ends at 7 and was noted up to 10" in sealer.broken()
    assert noted_head(config) == noted
    record(database, 5)
    sealer.seal_audit_trail()
    assert "is another than was noted at 10" in sealer.broken()
    assert noted_head(config) == noted


def test_the_whole_chain_is_looked_at_once_a_day_and_always_while_it_is_broken(
    sealer: Sealer, database: Database, clock: ManualClock
) -> None:
    record(database, 3)
    sealer.seal_audit_trail()
    sealer.verify_audit_trail()
    with database.write() as session:
        session.execute(update(AuditEvent).where(AuditEvent.id == 2).values(kind="other"))
    sealer.verify_audit_trail()
    assert sealer.broken() == "", "not yet"
    clock.move(24 * 3600)
    sealer.verify_audit_trail()
    assert "event 2" in sealer.broken()
    with database.write() as session:
        session.execute(update(AuditEvent).where(AuditEvent.id == 2).values(kind="study_settled"))
    sealer.verify_audit_trail()
    assert sealer.broken() == ""


def test_the_whole_chain_is_looked_at_although_the_clock_was_put_back(
    sealer: Sealer, database: Database, clock: ManualClock
) -> None:
    record(database, 3)
    sealer.seal_audit_trail()
    clock.move(30 * 86_400)
    sealer.verify_audit_trail()
    clock.move(-30 * 86_400)
    with database.write() as session:
        session.execute(update(AuditEvent).where(AuditEvent.id == 2).values(kind="forged"))
    sealer.verify_audit_trail()
    assert "is not whole" in sealer.broken()


def test_a_person_may_accept_what_deviates_and_that_is_on_record(
    sealer: Sealer, config: NodeConfig, database: Database, clock: ManualClock
) -> None:
    record(database, 10)
    sealer.seal_audit_trail()
    cut_off(database, 6)
    with database.write() as session:
        session.execute(update(AuditEvent).where(AuditEvent.id == 2).values(kind="other"))
    assert sealing.verify(config, database, ManualClock().now()).deviations == 2
    assert sealing.accept(config, database, clock.now(), "jane", "backup of Sunday") == 2
    sealer.seal_audit_trail()
    verdict = sealing.verify(config, database, ManualClock().now())
    assert (verdict.whole, verdict.accepted) == (True, 1), "a cut tail is not there any more"
    with database.read() as session:
        (event,) = audit.latest(session, 1, kind="audit_deviations_accepted")
    assert event.data["deviations"] == [["changed", 2], ["tail", 7]]
    assert (event.data["by"], event.data["noted"], event.data["ends_at"]) == ("jane", 10, 6)


def test_a_note_that_somebody_spoilt_is_told(
    sealer: Sealer, config: NodeConfig, database: Database, clock: ManualClock
) -> None:
    record(database, 1)
    sealer.seal_audit_trail()
    head_file(config).write_text("{}")
    record(database, 1)
    sealer.seal_audit_trail()
    assert "cannot be read" in sealer.broken()
    sealing.accept(config, database, clock.now(), "jane", "a mishap")
    assert isinstance(noted_head(config), Link)


@pytest.fixture
def forgotten(
    tmp_path: Path, database: Database, clock: ManualClock
) -> tuple[NodeConfig, Sealer, Link]:
    """A node whose retention has taken the first ten events; what another has noted of them."""
    keep = {"images_days": 1, "reports_days": 1, "records_days": 30}
    config = config_in(tmp_path, retention=keep)
    sealer = Sealer(config, database, clock)
    record(database, 10)
    sealer.seal_audit_trail()
    noted = noted_head(config)
    assert noted is not None
    clock.move(100 * 86_400)
    with database.write() as session:
        audit.record(session, clock.now(), "study_settled")
    sealer.seal_audit_trail()
    with database.write() as session:
        assert chain.forget(session, clock.now(), clock.now()) == 10
    sealer.seal_audit_trail()
    assert sealing.verify(config, database, clock.now()).whole
    return config, sealer, noted


def noted_days_ago(config: NodeConfig, link: Link, clock: ManualClock, days: float) -> None:
    sealing.note_head(config, link)
    at = clock.now().timestamp() - days * 86_400
    os.utime(head_file(config), (at, at))


def test_the_old_note_of_a_host_that_stood_by_is_no_evidence_against_retention(
    forgotten: tuple[NodeConfig, Sealer, Link], database: Database, clock: ManualClock
) -> None:
    config, _, noted = forgotten
    with database.read() as session:
        assert chain.link_at(session, noted.position - 1) is None
    noted_days_ago(config, Link(noted.position - 1, "f" * 64), clock, days=31)
    assert sealing.verify(config, database, clock.now()).whole
    other = Sealer(config, database, clock)
    other.seal_audit_trail()
    assert other.broken() == ""
    with database.read() as session:
        assert noted_head(config) == chain.head(session)


def test_a_young_note_stays_evidence_although_the_chain_begins_behind_it(
    forgotten: tuple[NodeConfig, Sealer, Link], database: Database, clock: ManualClock
) -> None:
    config, _, noted = forgotten
    noted_days_ago(config, Link(noted.position - 1, "f" * 64), clock, days=29)
    (broken,) = sealing.verify(config, database, clock.now()).broken
    assert broken.deviation == "another chain"
    other = Sealer(config, database, clock)
    other.seal_audit_trail()
    assert "another than was noted at 9" in other.broken()
