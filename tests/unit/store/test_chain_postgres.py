"""On PostgreSQL an event may become visible after one that was begun later: none goes unsealed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from dicom_node.store import audit, chain, chain_check, figures
from dicom_node.store.chain_check import Deviation
from dicom_node.store.database import Database
from dicom_node.store.tables import AuditEvent
from tests.factories import ManualClock
from tests.peers.postgres import Postgres

NOW = ManualClock().now()


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Database]:
    url = postgres.database_with_tables()
    database = Database(url)
    database.migrate()
    yield database
    database.close()
    postgres.empty(url)


def seal(database: Database) -> int:
    with database.write() as session:
        links = chain.next_links(session)
        chain.put(session, links)
    return len(links)


def test_an_event_whose_transaction_ends_late_is_sealed_late(database: Database) -> None:
    with Session(database.engine) as slow:
        audit.record(slow, NOW, "study_settled", study_uid="1.2.3", revision=1)
        slow.flush()
        with database.write() as session:
            audit.record(session, NOW, "study_routed", study_uid="1.2.3")
        assert seal(database) == 1
        slow.commit()
    assert seal(database) == 1
    with database.read() as session:
        order = [item.event.kind for item in chain.sealed(session)]
        assert order == ["study_routed", "study_settled"]
        assert chain_check.verify(session, chain.head(session)).whole


def test_a_change_is_seen_and_what_was_forgotten_is_not_one(database: Database) -> None:
    with database.write() as session:
        for _ in range(5):
            audit.record(session, NOW, "study_settled", study_uid="1.2.3", seconds=1.5)
    seal(database)
    with database.write() as session:
        later = NOW + timedelta(days=1)
        assert chain.forget(session, later, later, up_to=2) == 2
        session.execute(update(AuditEvent).where(AuditEvent.id == 4).values(kind="other"))
    seal(database)
    with database.read() as session:
        verdict = chain_check.verify(session, chain.head(session))
        assert [item.deviation for item in verdict.broken] == [Deviation.CHANGED]
        assert verdict.forgotten == 2
        assert figures.figures(session, NOW).audit_sealed == 6
