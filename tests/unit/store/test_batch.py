"""Adding many instances at once gives what adding them one by one gives."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from dicom_node.store import index
from dicom_node.store.database import Database
from dicom_node.store.tables import AuditEvent, Base, Instance, Study
from tests.factories import facts

AT = datetime(2026, 1, 2, tzinfo=UTC)

arrivals = st.lists(
    st.builds(
        lambda study, series, sop, sha256: index.Arrival(
            facts(study=f"1.{study}", series=f"1.{study}.{series}", sop=f"1.2.3.{sop}"),
            f"studies/{sop}",
            sha256,
            AT,
        ),
        st.integers(1, 2),
        st.integers(1, 2),
        st.integers(1, 4),
        st.sampled_from(["a", "b"]),
    ),
    max_size=8,
)


def outcome(items: list[index.Arrival], batches: list[int]) -> list[object]:
    """Add them in batches of these sizes (0: each alone); returns what the index then holds."""
    database = Database("sqlite://")
    Base.metadata.create_all(database.engine)
    told: list[object] = []
    for size in batches:
        part, items = (items[:size], items[size:]) if size else (items, [])
        with database.write() as session:
            batch = (
                index.Batch(session, {item.facts.sop_instance_uid for item in part})
                if size
                else None
            )
            told += [index.add_instance(session, item, AT, batch) for item in part]
    with database.read() as session:
        for row in session.scalars(select(Instance).order_by(Instance.sop_instance_uid)):
            study = session.get_one(Study, row.study_id)
            told.append((row.sop_instance_uid, row.sha256, study.study_instance_uid))
        told += sorted(session.scalars(select(AuditEvent.kind)))
    database.close()
    return told


@settings(max_examples=50, deadline=None)
@given(items=arrivals, first=st.integers(1, 8))
def test_a_batch_is_as_good_as_one_by_one(items: list[index.Arrival], first: int) -> None:
    assert outcome(items, [first, 8]) == outcome(items, [0])
