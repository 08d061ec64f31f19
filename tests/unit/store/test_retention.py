"""What may be given up: nothing that waits for anybody, the oldest first."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import select

from dicom_node.errors import NodeError
from dicom_node.model.commitment import CommitmentRequest, Reference
from dicom_node.model.states import DeliveryState, HoldReason, StudyState
from dicom_node.store import chain, commitments, exchanges, held, outbox, retention, retrievals
from dicom_node.store.database import Database
from dicom_node.store.retention import Kept, Rules
from dicom_node.store.tables import (
    AskedCommitment,
    AuditEvent,
    Base,
    Commitment,
    Delivery,
    FindingRow,
    Instance,
    Job,
    Report,
    Retrieval,
    Series,
    Study,
    StudyWord,
)
from tests.unit.store.lifecycles import Store

DAY = 86_400
SOP_CLASS = "1.2.840.10008.5.1.4.1.1.1.1"


@pytest.fixture
def store(database: Database) -> Store:
    """One study, finished and delivered."""
    store = Store(database)
    store.arrive("1")
    store.route("1")
    store.finish(store.claim())  # type: ignore[arg-type]
    store.sent(1)
    return store


def may_go(store: Store, kind: Kept = Kept.IMAGES, rules: Rules | None = None) -> list[str]:
    with store.database.read() as session:
        found = retention.finished(session, kind, rules or Rules())
        return [item.study_uid for item in found]


def give_up(store: Store, kind: Kept = Kept.IMAGES, rules: Rules | None = None) -> bool:
    with store.database.write() as session:
        study = held.find(session, "1.2.3")
        now = store.clock.now()
        return retention.give_up(session, kind, study.id, rules or Rules(), now, why="age")


def delivery_is(state: DeliveryState) -> Callable[[Store], None]:
    def change(store: Store) -> None:
        with store.database.write() as session:
            row = session.get_one(Delivery, 1)
            if state is DeliveryState.FAILED:
                outbox.retry(session, row, store.clock.now())
            row.state = state

    return change


def hold(store: Store) -> None:
    with store.database.write() as session:
        study = held.find(session, "1.2.3")
        held.hold(session, study, HoldReason.QUARANTINED, "why", store.clock.now())


def queue_another(store: Store) -> None:
    store.route("1", pipeline="hip")


def run_another(store: Store) -> None:
    queue_another(store)
    assert store.claim()


def fail_another(store: Store) -> None:
    queue_another(store)
    for _ in range(2):
        assert store.claim()
        store.lose()
        store.clock.move(60)


def receive_a_late_image(store: Store) -> None:
    store.arrive("2")


def promise(store: Store) -> None:
    now = store.clock.now()
    request = CommitmentRequest("2.25.7", "XR", "AINODE", (Reference(SOP_CLASS, "1"),))
    with store.database.write() as session:
        assert commitments.take(session, request, now, timedelta(0))
        row = session.scalars(select(Commitment)).one()
        commitments.verified(session, row, {}, now)


def test_what_is_finished_and_delivered_may_go(store: Store) -> None:
    assert may_go(store) == ["1.2.3"]
    assert may_go(store, Kept.REPORTS) == ["1.2.3"]
    assert may_go(store, Kept.RECORDS) == [], "its files are there yet"


@pytest.mark.parametrize(
    "change",
    [
        delivery_is(DeliveryState.PENDING),
        delivery_is(DeliveryState.FAILED),
        hold,
        queue_another,
        run_another,
        fail_another,
        receive_a_late_image,
    ],
)
def test_nothing_goes_of_what_somebody_waits_for(
    store: Store, change: Callable[[Store], None]
) -> None:
    change(store)
    assert may_go(store) == may_go(store, Kept.REPORTS) == []
    assert not give_up(store)
    assert not give_up(store, Kept.REPORTS)


def test_what_changed_since_it_was_chosen_does_not_go(store: Store) -> None:
    assert may_go(store) == ["1.2.3"]
    receive_a_late_image(store)
    assert not give_up(store)


def test_of_a_peer_that_commits_sent_is_not_enough(store: Store) -> None:
    with store.database.write() as session:
        session.get_one(Delivery, 1).ask_at = store.clock.now()
    assert may_go(store) == []
    with store.database.write() as session:
        delivery = session.get_one(Delivery, 1)
        delivery.state, delivery.ask_at = DeliveryState.COMMITTED, None
    assert may_go(store) == ["1.2.3"]


def test_a_peer_that_does_not_commit_after_all_keeps_nothing_back(store: Store) -> None:
    with store.database.write() as session:
        session.get_one(Delivery, 1).ask_at = None
    assert may_go(store) == ["1.2.3"]


def test_images_that_a_sender_was_promised_stay_unless_the_site_says_otherwise(
    store: Store,
) -> None:
    promise(store)
    assert may_go(store) == []
    assert may_go(store, Kept.REPORTS) == ["1.2.3"], "nobody was promised those"
    assert may_go(store, rules=Rules(purge_committed=True)) == ["1.2.3"]


def test_what_was_purged_is_not_promised(store: Store) -> None:
    assert give_up(store)
    promise(store)
    with store.database.read() as session:
        (failed,) = session.scalars(select(Commitment)).one().failed or []
        assert session.scalars(select(Instance)).one().promised_at is None
    assert failed[1] == "1"


def test_age_counts_from_the_delivery(store: Store) -> None:
    with store.database.write() as session:
        session.get_one(Delivery, 1).sent_at = store.clock.now() + timedelta(days=3)
    with store.database.read() as session:
        (item,) = retention.finished(session, Kept.IMAGES, Rules())
        assert item.finished_at == store.clock.now() + timedelta(days=3)
        before = store.clock.now() + timedelta(days=2)
        assert retention.finished(session, Kept.IMAGES, Rules(), before) == []


def test_the_oldest_goes_first(store: Store) -> None:
    for number, study in enumerate(("1.9", "1.8"), start=2):
        store.clock.move(DAY)
        store.arrive(f"{study}.1", study)
        store.route(f"{study}.1", study=study)
        store.finish(store.claim())  # type: ignore[arg-type]
        store.sent(number)
    assert may_go(store) == ["1.2.3", "1.9", "1.8"]


def test_a_study_that_no_route_wants_is_finished_when_it_has_settled(database: Database) -> None:
    store = Store(database)
    store.arrive("1")
    with store.database.write() as session:
        study = held.find(session, "1.2.3")
        study.state, study.settled_at = StudyState.SETTLED, store.clock.now()
    assert may_go(store) == ["1.2.3"]


def test_what_went_is_told_once_with_its_reason(store: Store) -> None:
    assert give_up(store)
    assert not give_up(store)
    assert store.events("images_purged") == [{"why": "age"}]
    with store.database.write() as session:
        assert retention.given_up(session, Kept.IMAGES, ["1.2.3"]) == ["studies/1"]
        assert retention.given_up(session, Kept.REPORTS, ["1.2.3"]) == []


def test_what_came_again_is_not_given_up_any_more(store: Store) -> None:
    assert give_up(store)
    store.arrive("1")
    with store.database.write() as session:
        assert retention.given_up(session, Kept.IMAGES, ["1.2.3"]) == []


def test_a_study_with_a_part_of_its_images_goes_on_with_them_when_a_person_says_so(
    store: Store,
) -> None:
    assert give_up(store)
    with store.database.write() as session:
        study = held.find(session, "1.2.3")
        held.hold(session, study, HoldReason.IMAGES_PURGED, "1 was purged", store.clock.now())
    with pytest.raises(NodeError, match="none of its images is there"):
        store.release()
    store.arrive("2")
    store.release()
    with store.database.read() as session:
        assert [row.sop_instance_uid for row in session.scalars(select(Instance))] == ["2"]


def test_a_study_whose_images_all_came_again_goes_on_by_itself(store: Store) -> None:
    assert give_up(store)
    store.arrive("2")
    with store.database.write() as session:
        study = held.find(session, "1.2.3")
        held.hold(session, study, HoldReason.IMAGES_PURGED, "1 was purged", store.clock.now())
    store.arrive("1")
    assert store.study().held_at is None


def test_the_records_go_last_and_leave_only_the_word_that_they_went(store: Store) -> None:
    assert give_up(store)
    assert give_up(store, Kept.REPORTS)
    assert may_go(store, Kept.RECORDS) == ["1.2.3"]
    assert give_up(store, Kept.RECORDS)
    with store.database.read() as session:
        for table in (Study, Series, Instance, Job, Report, Delivery, FindingRow):
            assert session.scalars(select(table)).all() == [], table
    with store.database.write() as session:
        chain.put(session, chain.next_links(session))
        later = store.clock.now() + timedelta(seconds=1)
        assert chain.forget(session, later, later) > 0
        (left,) = session.scalars(select(AuditEvent)).all()
        assert left.kind == "audit_events_forgotten"


def test_the_story_of_a_study_that_is_there_is_kept(store: Store) -> None:
    with store.database.write() as session:
        chain.put(session, chain.next_links(session))
        later = store.clock.now() + timedelta(days=1)
        chain.forget(session, later, later)
    assert store.events("study_begun")


def test_what_peers_were_asked_goes_with_the_records(store: Store) -> None:
    """And nothing that still waits: for a report, for its study, for its delivery's records."""
    begun = store.clock.now()
    with store.database.write() as session:
        retrievals.begin(session, "1.2.3", "pacs", {}, begun)
        retrievals.begin(session, "1.2.99", "pacs", {}, begun)
        for uid in ("2.25.1", "2.25.2"):
            commitments.take(
                session,
                CommitmentRequest(uid, "XR", "AINODE", (Reference(SOP_CLASS, "1"),)),
                begun,
                timedelta(0),
            )
        row = commitments.find(session, "XR", "2.25.1")
        assert row is not None
        commitments.verified(session, row, {}, begun)
        commitments.reported(session, row, "status 0x0000", begun)
        for uid in ("2.25.3", "2.25.4"):
            session.add(
                AskedCommitment(
                    transaction_uid=uid,
                    peer="pacs",
                    ae_title="PACS",
                    references=[],
                    requested_at=begun,
                )
            )
        session.scalars(select(Delivery)).one().transaction_uid = "2.25.4"
    with store.database.write() as session:
        assert exchanges.forget(session, begun) == 0, "none is older"
        assert exchanges.forget(session, begun + timedelta(seconds=1)) == 3
    with store.database.read() as session:
        assert session.scalars(select(Retrieval.study_instance_uid)).all() == ["1.2.3"]
        assert session.scalars(select(Commitment.transaction_uid)).all() == ["2.25.2"]
        assert session.scalars(select(AskedCommitment.transaction_uid)).all() == ["2.25.4"]


def test_every_table_that_hangs_on_a_study_goes_with_it() -> None:
    """A new table with a foreign key must be thought of."""
    deleted = {
        t.__tablename__ for t in (Series, Instance, Job, Report, Delivery, FindingRow, StudyWord)
    }
    hanging, before = {"studies"}, set()
    while hanging != before:
        before = set(hanging)
        for table in Base.metadata.tables.values():
            if any(key.column.table.name in hanging for key in table.foreign_keys):
                hanging.add(table.name)
    assert hanging - {"studies"} == deleted
