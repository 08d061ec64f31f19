"""A study's audit events in plain words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from dicom_node.serve.story import story
from dicom_node.store.tables import AuditEvent

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def _event(after: int, kind: str, *, peer: str | None = None, **data: Any) -> AuditEvent:
    return AuditEvent(
        at=AT + timedelta(seconds=after), kind=kind, study_uid="1.2", peer=peer, data=data
    )


def test_the_batches_of_a_study_are_one_line() -> None:
    steps = story(
        [
            _event(0, "instances_received", peer="CT1", number=200),
            _event(1, "instances_received", peer="CT1", number=100),
            _event(2, "instances_received", peer="CT2", number=1),
        ]
    )
    assert [step.text for step in steps] == [
        "300 images from CT1 and 1 image from CT2 received and safe on disk"
    ]
    assert steps[0].at == AT + timedelta(seconds=2)


def test_what_says_the_same_in_a_row_is_one_line() -> None:
    delayed = [_event(n, "report_delayed", peer="pacs", answer="no route to host") for n in (1, 2)]
    (step,) = story(delayed)
    assert (step.text, step.more, step.times) == (
        "pacs did not take an object yet",
        "no route to host",
        2,
    )


def test_an_error_is_told_with_what_why_and_what_to_do() -> None:
    error = {"what": "pipeline knee", "why": "out of memory", "fix": "give it more"}
    (step,) = story([_event(0, "job_failed", pipeline="knee", error=error)])
    assert (step.tone, step.text) == ("bad", "knee: failed")
    assert step.more == "pipeline knee: out of memory. give it more"


def test_a_decision_names_who_took_it_and_why() -> None:
    (step,) = story([_event(0, "study_released", by="anna", reason="same patient")])
    assert (step.tone, step.text, step.more) == ("person", "Released by anna", "same patient")


def test_an_event_that_is_not_known_is_told_by_its_name() -> None:
    (step,) = story([_event(0, "comet_seen", height=3)])
    assert (step.tone, step.text, step.more) == ("plain", "comet seen", "height 3")
