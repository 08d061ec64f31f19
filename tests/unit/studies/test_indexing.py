"""Indexing: whatever interrupts it, each received file ends once in its study, or aside."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import select
from structlog.testing import capture_logs

from dicom_node.model.own_output import OWN_MODEL_NAME
from dicom_node.model.states import StudyState
from dicom_node.store import index
from dicom_node.store.database import Database
from dicom_node.store.seal import dataset_sha256
from dicom_node.store.spool import Spool
from dicom_node.store.tables import AuditEvent, Instance, Study
from dicom_node.studies import indexing
from dicom_node.studies.indexing import Indexer
from tests.factories import ManualClock, radiograph
from tests.unit.serve.small_node import events, put_into_inbox
from tests.unit.studies.indexed import instances, place_of, stored


def test_a_file_gets_its_row_and_its_place(
    indexer: Indexer, database: Database, spool: Spool
) -> None:
    image = radiograph(study="1.2.3", PatientName="Phantom^One")
    put_into_inbox(spool, image, sender="XRAY")
    assert indexer.index_waiting() == 1
    (row,) = instances(database)
    assert row.path == place_of(image)
    assert row.sender == "XRAY"
    assert row.transfer_syntax_uid == image.file_meta.TransferSyntaxUID
    assert row.attributes["BodyPartExamined"] == "KNEE"
    (file,) = stored(spool)
    assert file == spool.root / row.path
    assert dataset_sha256(file) == row.sha256
    assert spool.waiting() == []
    assert indexer.index_waiting() == 0


def test_the_row_is_committed_before_the_file_is_moved(
    indexer: Indexer, database: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = radiograph(study="1.2.3")
    put_into_inbox(spool, image)
    place = Spool.place
    rows_at_the_move = []

    def watched(self: Spool, plan: object, **options: bool) -> Path:
        rows_at_the_move.append(len(instances(database)))
        return place(self, plan, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Spool, "place", watched)
    indexer.index_waiting()
    assert rows_at_the_move == [1]


class Killed(BaseException):
    """What stands for a process that ends here."""


def killed_before(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, call: int
) -> Callable[[], None]:
    """End the process at the nth call of a function; returns what ends that."""
    whole = getattr(owner, name)
    calls = 0

    def ends(*args: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call:
            raise Killed
        return whole(*args, **options)

    monkeypatch.setattr(owner, name, ends)
    return monkeypatch.undo


@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Spool, "finish"),
        (Spool, "plan"),
        (index, "add_instance"),
        (indexing.audit, "record"),
        (Spool, "place"),
        (Path, "rename"),
        (Path, "unlink"),
    ],
)
def test_interrupted_anywhere_and_run_again_the_result_is_the_same(
    database: Database,
    spool: Spool,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    name: str,
    call: int,
) -> None:
    """Three images, one of them twice: three rows, three files, an empty inbox, one study."""
    images = [radiograph(study="1.2.3") for _ in range(3)]
    for image in [*images, images[0]]:
        put_into_inbox(spool, image)
    resume = killed_before(monkeypatch, owner, name, call)
    try:
        Indexer(database, spool, clock).index_waiting()
    except Killed:
        pass
    else:
        # one superfluous copy is unlinked, and two events are written: there is no further call
        assert (name, call) in {("unlink", 2), ("unlink", 3), ("record", 3)}
    finally:
        resume()
    Indexer(database, spool, clock).index_waiting()
    assert sorted(row.path for row in instances(database)) == sorted(map(place_of, images))
    assert stored(spool) == sorted(spool.root / place_of(image) for image in images)
    assert (spool.waiting(), stored(spool, "aside")) == ([], [])
    for row in instances(database):
        assert dataset_sha256(spool.root / row.path) == row.sha256
    with database.read() as session:
        assert session.scalars(select(Study)).one().state == StudyState.RECEIVING
        kinds = session.scalars(select(AuditEvent.kind)).all()
    assert kinds.count("study_begun") == 1
    assert "instance_conflict" not in kinds


def test_the_same_image_again_changes_nothing_and_keeps_the_study_settled(
    indexer: Indexer, database: Database, spool: Spool, clock: ManualClock
) -> None:
    image = radiograph(study="1.2.3")
    put_into_inbox(spool, image, sender="XRAY")
    indexer.index_waiting()
    settle(database, clock)
    # a second sender's copy differs in its File Meta Information only
    put_into_inbox(spool, image, sender="PACS")
    indexer.index_waiting()
    assert [row.sender for row in instances(database)] == ["XRAY"]
    assert len(stored(spool)) == 1
    assert (spool.waiting(), stored(spool, "aside")) == ([], [])
    with database.read() as session:
        assert session.scalars(select(Study)).one().state == StudyState.SETTLED


def test_other_content_under_the_same_uid_goes_aside_and_the_first_stays(
    indexer: Indexer, database: Database, spool: Spool
) -> None:
    image = radiograph(study="1.2.3")
    put_into_inbox(spool, image)
    indexer.index_waiting()
    first = (spool.root / place_of(image)).read_bytes()
    image.ViewPosition = "LL"
    put_into_inbox(spool, image)
    indexer.index_waiting()
    assert (spool.root / place_of(image)).read_bytes() == first
    (aside,) = stored(spool, "aside")
    assert aside.name.startswith(f"{image.SOPInstanceUID}.")
    assert dcmread(aside).ViewPosition == "LL"
    (told,) = events(database, "instance_conflict")
    assert told["sop_instance_uid"] == image.SOPInstanceUID
    assert told["set_aside"] == dataset_sha256(aside)


@pytest.mark.parametrize("removed", [True, False])
def test_other_content_is_placed_where_the_first_was_purged(
    indexer: Indexer, database: Database, spool: Spool, clock: ManualClock, removed: bool
) -> None:
    image = radiograph(study="1.2.3")
    put_into_inbox(spool, image)
    indexer.index_waiting()
    with database.write() as session:
        session.scalars(select(Instance)).one().purged_at = clock.now()
    if removed:
        (spool.root / place_of(image)).unlink()
    image.ViewPosition = "LL"
    for _ in range(2):
        put_into_inbox(spool, image)
    indexer.index_waiting()
    (row,) = instances(database)
    assert dcmread(spool.root / row.path).ViewPosition == "LL"
    assert dataset_sha256(spool.root / row.path) == row.sha256
    assert (row.purged_at, row.attributes["ViewPosition"]) == (None, "LL")
    # what retention had not removed yet loses nothing
    assert len(stored(spool, "aside")) == (0 if removed else 1)
    assert events(database, "instance_conflict") == []


def test_one_instance_in_two_studies_is_a_conflict(
    indexer: Indexer, database: Database, spool: Spool
) -> None:
    image = radiograph(study="1.2.3")
    put_into_inbox(spool, image)
    image.StudyInstanceUID = "1.2.4"
    put_into_inbox(spool, image)
    indexer.index_waiting()
    assert [row.path for row in instances(database)] == [
        f"studies/1.2.3/{image.SeriesInstanceUID}/{image.SOPInstanceUID}.dcm"
    ]
    assert len(events(database, "instance_conflict")) == 1
    assert len(stored(spool, "aside")) == 1


def no_dicom(spool: Spool) -> Path:
    file = spool.root / "inbox" / "x.dcm"
    file.write_bytes(b"Doe^Jane" * 100)
    return file


def empty(spool: Spool) -> Path:
    file = spool.root / "inbox" / "x.dcm"
    file.touch()
    return file


def cut_off(spool: Spool) -> Path:
    file = put_into_inbox(spool, radiograph(study="1.2.3", PatientName="Doe^Jane"))
    file.write_bytes(file.read_bytes()[:300])
    return file


def without_study_uid(spool: Spool) -> Path:
    return put_into_inbox(spool, radiograph(PatientName="Doe^Jane", StudyInstanceUID=""))


def uid_that_names_a_folder(spool: Spool) -> Path:
    image = radiograph(study="1.2.3", PatientName="Doe^Jane")
    image.SeriesInstanceUID = "../../../etc"
    return put_into_inbox(spool, image)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize(
    "bad", [no_dicom, empty, cut_off, without_study_uid, uid_that_names_a_folder]
)
def test_a_malformed_file_goes_aside_with_a_reason_and_holds_up_no_other(
    indexer: Indexer, database: Database, spool: Spool, bad: Callable[[Spool], Path]
) -> None:
    file = bad(spool)
    content = file.read_bytes()
    good = radiograph(study="1.2.9")
    put_into_inbox(spool, good)
    with capture_logs() as logs:
        indexer.index_waiting()
    (aside,) = stored(spool, "aside")
    assert aside.read_bytes() == content
    assert [row.path for row in instances(database)] == [place_of(good)]
    (told,) = events(database, "file_set_aside")
    assert told["file"] == aside.name
    assert told["why"]
    assert "Doe" not in f"{logs}{told}"
    assert indexer.index_waiting() == 0


def test_an_interrupted_setting_aside_is_told_once(
    database: Database, spool: Spool, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_dicom(spool)
    resume = killed_before(monkeypatch, Spool, "set_aside", 1)
    with pytest.raises(Killed):
        Indexer(database, spool, clock).index_waiting()
    resume()
    Indexer(database, spool, clock).index_waiting()
    assert len(stored(spool, "aside")) == 1
    assert len(events(database, "file_set_aside")) == 1


def test_our_own_output_is_indexed_like_any_image(
    indexer: Indexer, database: Database, spool: Spool
) -> None:
    """It belongs to its study; that it is never analysed is routing's to decide."""
    put_into_inbox(spool, radiograph(study="1.2.3", ManufacturerModelName=OWN_MODEL_NAME))
    indexer.index_waiting()
    (row,) = instances(database)
    assert row.attributes["ManufacturerModelName"] == OWN_MODEL_NAME


def test_a_late_image_reopens_its_study(
    indexer: Indexer, database: Database, spool: Spool, clock: ManualClock
) -> None:
    put_into_inbox(spool, radiograph(study="1.2.3"))
    indexer.index_waiting()
    settle(database, clock)
    late = radiograph(study="1.2.3")
    put_into_inbox(spool, late, sender="CT7")
    indexer.index_waiting()
    with database.read() as session:
        assert session.scalars(select(Study)).one().state == StudyState.RECEIVING
    (told,) = events(database, "study_reopened")
    assert told["sop_instance_uid"] == late.SOPInstanceUID


def test_what_came_is_in_the_audit_trail_by_study_and_sender(
    indexer: Indexer, database: Database, spool: Spool
) -> None:
    for study, sender in (("1.2.3", "XRAY"), ("1.2.3", "XRAY"), ("1.2.3", "CT"), ("1.2.4", "CT")):
        put_into_inbox(spool, radiograph(study=study), sender=sender)
    indexer.index_waiting()
    with database.read() as session:
        rows = session.scalars(select(AuditEvent).where(AuditEvent.kind == "instances_received"))
        told = sorted((row.study_uid, row.peer, row.data["number"]) for row in rows)
    assert told == [("1.2.3", "CT", 1), ("1.2.3", "XRAY", 2), ("1.2.4", "CT", 1)]


def settle(database: Database, clock: ManualClock) -> None:
    clock.move(60)
    with database.write() as session:
        assert index.settle_quiet(session, clock.now(), timedelta(seconds=60))


def test_a_burst_is_indexed_when_it_has_passed(indexer: Indexer, spool: Spool) -> None:
    put_into_inbox(spool, radiograph())
    assert indexer.index_when_quiet() == 0
    put_into_inbox(spool, radiograph())
    assert indexer.index_when_quiet() == 0
    assert indexer.in_burst
    assert indexer.index_when_quiet() == 2
    assert not indexer.in_burst
    assert indexer.index_when_quiet() == 0
    put_into_inbox(spool, radiograph())
    assert [indexer.index_when_quiet() for _ in range(2)] == [0, 1]


def test_a_stream_without_end_is_indexed_as_it_comes(
    indexer: Indexer, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(indexing.time, "monotonic", lambda: now)
    indexed = []
    for _ in range(8):
        put_into_inbox(spool, radiograph())
        indexed.append(indexer.index_when_quiet())
        now += 1
    assert indexed == [0, 0, 0, 4, 0, 0, 0, 4]
