"""Images that name another patient hold their study for a person."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from dicom_node.errors import NodeError, TransitionError
from dicom_node.model.states import DeliveryState, HoldReason
from dicom_node.store import held, index
from dicom_node.store.tables import Instance
from tests.unit.store.lifecycles import JANE, RICHARD, Store


@pytest.mark.parametrize("sop", ["1", "2"], ids=["same image", "new image"])
def test_an_image_of_another_patient_holds_its_study_and_nothing_of_it_goes_out(
    store: Store, sop: str
) -> None:
    store.arrive("1", **JANE)
    store.route("1")
    store.finish(store.claim())  # type: ignore[arg-type]
    store.arrive(sop, sha256="other", **RICHARD)
    study = store.study()
    assert study.held_reason == HoldReason.CHANGED_PATIENT
    assert study.held_text == (
        "an image from XR differs from those before in PatientID, PatientName"
    )
    assert store.due() == 0
    (event,) = store.events("study_held")
    assert event["attributes"] == ["PatientID", "PatientName"]
    told = f"{study.held_text}{event}"
    assert not any(value in told for value in (*JANE.values(), *RICHARD.values()))
    store.release()
    assert store.due() == (1 if sop == "1" else 0), "a new image is routed first"


def test_a_held_study_is_not_routed_until_it_is_released(store: Store) -> None:
    store.arrive("1", **JANE)
    store.arrive("2", **RICHARD)
    store.clock.move(60)
    with store.database.write() as session:
        index.settle_quiet(session, store.clock.now(), timedelta(seconds=60))
        assert index.to_route(session) == []
    store.release()
    with store.database.read() as session:
        assert [row.study_instance_uid for row in index.to_route(session)] == ["1.2.3"]


def test_a_released_study_may_name_both_patients_from_then_on(store: Store) -> None:
    store.arrive("1", **JANE)
    store.arrive("2", **RICHARD)
    store.release()
    store.arrive("3", **RICHARD)
    store.arrive("4", **JANE)
    assert store.study().held_at is None
    store.arrive("5", **{**JANE, "PatientID": "4713"})
    assert store.study().held_at is not None


def test_many_such_images_are_told_once(store: Store) -> None:
    store.arrive("1", **JANE)
    for sop in ("2", "3", "4"):
        store.arrive(sop, **RICHARD)
    assert len(store.events("study_held")) == 1


def test_our_own_reports_come_back_with_whatever_patient_the_pacs_gives_them(store: Store) -> None:
    store.arrive("1", **JANE)
    store.arrive("2", ManufacturerModelName="dicom-node", **RICHARD)
    assert store.study().held_at is None


def test_a_site_may_only_want_to_be_told(store: Store) -> None:
    store.arrive("1", **JANE)
    store.arrive("2", hold=False, **RICHARD)
    assert store.study().held_at is None
    (event,) = store.events("patient_changed")
    assert event["attributes"] == ["PatientID", "PatientName"]


def test_a_discarded_study_neither_runs_nor_sends_and_can_be_taken_up_again(store: Store) -> None:
    store.arrive("1", **JANE)
    store.route("1")
    store.finish(store.claim())  # type: ignore[arg-type]
    store.route("1", pipeline="hip")
    store.arrive("2", **RICHARD)
    with store.database.write() as session:
        study = held.find(session, "1.2.3")
        assert held.discard(session, study, store.clock.now(), "admin", "phantom") == 2
    assert store.deliveries() == [DeliveryState.SUPERSEDED]
    assert store.claim() is None
    assert "discarded" in (store.study().unrouted_reason or "")
    store.route("1")
    store.route("1", pipeline="hip")
    assert store.deliveries() == [DeliveryState.PENDING]
    job = store.claim()
    assert job is not None
    assert job.pipeline == "hip"


def test_only_what_is_held_can_be_released(store: Store) -> None:
    store.arrive("1")
    with pytest.raises(NodeError, match="it is not held"):
        store.release()


def test_a_study_that_is_running_cannot_be_discarded(store: Store) -> None:
    store.arrive("1")
    store.route("1")
    assert store.claim()
    with store.database.write() as session, pytest.raises(TransitionError, match="is running"):
        held.discard(session, held.find(session, "1.2.3"), store.clock.now(), "admin", "phantom")


def test_an_image_whose_file_was_purged_is_there_again_when_it_is_sent_again(store: Store) -> None:
    store.arrive("1")
    store.route("1")
    with store.database.write() as session:
        session.scalars(select(Instance)).one().purged_at = store.clock.now()
    assert store.arrive("1") is index.Indexed.RESTORED
    assert store.arrive("1") is index.Indexed.DUPLICATE
    with store.database.read() as session:
        assert session.scalars(select(Instance)).one().purged_at is None


def purge(store: Store) -> None:
    with store.database.write() as session:
        for row in session.scalars(select(Instance)):
            row.purged_at = store.clock.now()


def test_other_content_takes_the_place_of_what_was_purged(store: Store) -> None:
    store.arrive("1", **JANE)
    store.arrive("2", **JANE)
    store.route("1", "2")
    purge(store)
    store.arrive("3", **JANE)
    with store.database.write() as session:
        study = held.find(session, "1.2.3")
        held.hold(session, study, HoldReason.IMAGES_PURGED, "2 were purged", store.clock.now())
    assert store.arrive("1", sha256="b", BodyPartExamined="HIP", **JANE) is index.Indexed.RESTORED
    assert store.study().held_reason == HoldReason.IMAGES_PURGED
    assert store.arrive("1", sha256="b") is index.Indexed.DUPLICATE
    # the first content is known no more: whatever differs now is another one
    assert store.arrive("1", sha256="1") is index.Indexed.CONFLICT
    assert store.arrive("2", sha256="c", **JANE) is index.Indexed.RESTORED
    assert store.study().held_at is None
    with store.database.read() as session:
        first = session.scalars(select(Instance).order_by(Instance.id)).first()
        assert first is not None
        assert (first.sha256, first.purged_at) == ("b", None)
        assert first.attributes["BodyPartExamined"] == "HIP"
    told = store.events("instance_replaced")
    assert [(event["purged"], event["taken"]) for event in told] == [("1", "b"), ("2", "c")]


def test_other_content_of_another_patient_takes_the_place_and_holds_the_study(store: Store) -> None:
    store.arrive("1", **JANE)
    store.route("1")
    purge(store)
    assert store.arrive("1", sha256="other", **RICHARD) is index.Indexed.RESTORED
    assert store.study().held_reason == HoldReason.CHANGED_PATIENT


def test_a_purged_image_that_comes_in_another_study_is_a_conflict(store: Store) -> None:
    store.arrive("1", **JANE)
    purge(store)
    assert store.arrive("1", study="1.2.4", sha256="other") is index.Indexed.CONFLICT
    assert store.events("instance_replaced") == []
    with store.database.read() as session:
        assert session.scalars(select(Instance)).one().purged_at is not None
