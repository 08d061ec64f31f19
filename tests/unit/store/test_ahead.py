"""What waits for a time that was set while the clock was ahead."""

from __future__ import annotations

from datetime import timedelta

from dicom_node.alerts import book
from dicom_node.model.commitment import CommitmentRequest, Reference
from dicom_node.store import ahead, asked_commitments, commitments, index, losses
from dicom_node.store.ahead import Ahead, Longest
from dicom_node.store.tables import Delivery, Job
from dicom_node.store.watch_tables import REPOSITORY, AlertMessage, AuditMark
from tests.unit.store.lifecycles import POLICY, Store


def of(seconds: float) -> Longest:
    return Longest(*[timedelta(seconds=seconds)] * 4)


def test_what_waits_for_too_long_has_its_turn_now(store: Store) -> None:
    store.arrive("1")
    store.route("1")
    store.finish(store.claim())  # type: ignore[arg-type]
    store.route("1", pipeline="hip")
    now = store.clock.now()
    late = now + timedelta(hours=1)
    with store.database.write() as session:
        session.get_one(Job, 2).not_before = late
        session.get_one(Delivery, 1).next_attempt_at = late
    assert (store.claim(), store.due()) == (None, 0)
    with store.database.write() as session:
        assert not ahead.waits_ahead(session, now, of(3600))
        assert ahead.waits_ahead(session, now, of(3599)) == Ahead(jobs=1, deliveries=1)
        ahead.let_go(session, now, of(3599))
    assert store.due() == 1
    assert store.claim() is not None


def test_whoever_is_to_be_asked_or_told_is_when_the_clock_was_put_back(store: Store) -> None:
    store.arrive("1")
    store.route("1")
    store.finish(store.claim())  # type: ignore[arg-type]
    store.sent(1)
    now = store.clock.now()
    late = now + timedelta(hours=1)
    with store.database.write() as session:
        session.get_one(Delivery, 1).ask_at = late
        request = CommitmentRequest("1.2.9", "PACS", "AINODE", (Reference("1.2", "1.2.3"),))
        commitments.take(session, request, now, timedelta(0))
        asked = commitments.find(session, "PACS", "1.2.9")
        assert asked is not None
        commitments.verified(session, asked, {}, now)
        commitments.again(session, asked, "away", now, late)
        # where hosts have a data folder each, it waits for what they had not indexed by then
        request = CommitmentRequest("1.2.10", "PACS", "AINODE", (Reference("1.2", "1.2.3"),))
        commitments.take(session, request, late, timedelta(0))
        message = {"channel": "duty", "state": "waiting", "body": {}, "made_at": now}
        session.add(AlertMessage(**message, not_before=late))
        session.add(AuditMark(name=REPOSITORY, position=0, at=now, not_before=late))
    with store.database.write() as session:
        found = ahead.waits_ahead(session, now, of(3599))
        assert found == Ahead(asks=1, commitments=2, messages=2)
        ahead.let_go(session, now, of(3599))
        assert not ahead.waits_ahead(session, now, of(0))
        assert len(asked_commitments.due(session, "pacs", now)) == 1
        assert len(commitments.due(session, now)) == 1
        assert book.due(session, "duty", now) is not None


def test_a_claim_of_a_worker_that_is_gone_runs_out_when_the_clock_was_put_back(
    store: Store,
) -> None:
    store.arrive("1")
    store.route("1")
    store.clock.move(3600)
    store.claim()
    store.clock.move(-3600)
    now = store.clock.now()
    with store.database.write() as session:
        assert ahead.waits_ahead(session, now, of(60)) == Ahead(claims=1)
        ahead.let_go(session, now, of(60))
        assert losses.requeue_lost(session, now, POLICY) == []
    store.clock.move(61)
    with store.database.write() as session:
        assert losses.requeue_lost(session, store.clock.now(), POLICY) == [1]


def test_only_studies_that_still_receive_are_brought_back(store: Store) -> None:
    store.clock.move(3600)
    store.arrive("1")
    store.route("1")
    store.arrive("2", study="1.2.4")
    store.clock.move(-3600)
    with store.database.write() as session:
        assert index.any_ahead(session, store.clock.now())
        assert index.bring_back(session, store.clock.now()) == ["1.2.4"]
        assert not index.any_ahead(session, store.clock.now())
    assert store.study("1.2.4").last_instance_at == store.clock.now()
