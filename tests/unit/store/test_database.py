"""Sessions of the database: what they leave behind."""

from __future__ import annotations

import gc
import weakref

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.store import index, jobs
from dicom_node.store.database import Database
from dicom_node.store.jobs import NewJob
from dicom_node.store.tables import Study
from tests.factories import ManualClock, facts


@pytest.mark.parametrize("way", ["read", "write"])
def test_no_object_is_collected_while_its_session_closes(
    database: Database, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """CPython 3.11 writes to freed memory then: see `dicom_node.store.database._session`."""
    clock = ManualClock()
    item = facts()
    with database.write() as session:
        index.add_instance(session, index.Arrival(item, "x", "a", clock.now()), clock.now())
        study = session.scalars(select(Study)).one()
        new = NewJob("kl", "1", "w", [item.sop_instance_uid], ["pacs"], "route")
        jobs.enqueue(session, study, new, clock.now())
        session.flush()
        del study
    gc.collect()
    let_go = Session.expunge_all
    alive: list[bool] = []

    def after_a_collection(session: Session) -> None:
        gc.collect()
        alive.append(seen() is not None)
        let_go(session)

    with getattr(database, way)() as session:
        study = session.scalars(select(Study)).one()
        assert study.jobs[0].study is study  # a cycle: only the collector ends it
        seen = weakref.ref(study)
        del study
        monkeypatch.setattr(Session, "expunge_all", after_a_collection)

    assert alive == [True]
    gc.collect()
    assert seen() is None
