"""Indexing: whatever interrupts it, each received file ends once in its study, or aside."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset
from sqlalchemy import select
from structlog.testing import capture_logs

from dicom_node.model.own_output import OWN_MODEL_NAME
from dicom_node.model.states import StudyState
from dicom_node.store import index
from dicom_node.store.database import Database
from dicom_node.store.reserve import ROOM
from dicom_node.store.seal import PREAMBLE, dataset_sha256, dataset_start, is_whole
from dicom_node.store.spool import Spool
from dicom_node.store.tables import AuditEvent, Instance, Study
from dicom_node.studies import indexing
from dicom_node.studies.indexing import Indexer
from tests.factories import ManualClock, radiograph
from tests.unit.serve.small_node import events, put_into_inbox


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def indexer(database: Database, spool: Spool, clock: ManualClock) -> Indexer:
    return Indexer(database, spool, clock)


def place_of(image: FileDataset) -> str:
    uids = (image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID)
    return f"studies/{'/'.join(map(str, uids))}.dcm"


def instances(database: Database) -> list[Instance]:
    with database.read() as session:
        return list(session.scalars(select(Instance).order_by(Instance.id)))


def stored(spool: Spool, folder: str = "studies") -> list[Path]:
    return sorted(path for path in (spool.root / folder).rglob("*") if path.is_file())


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


def of_the_reserve(spool: Spool) -> bytes:
    """Let an image come as it does into a file of the reserve; returns its bytes."""
    spool.keep_reserve(ROOM)
    whole = put_into_inbox(spool, radiograph())
    encoded = whole.read_bytes()
    whole.unlink()
    start = dataset_start(encoded[:144])
    incoming = spool.incoming(encoded[:start])
    incoming.write(encoded[start:])
    incoming.keep()
    incoming.move()
    return encoded


def test_an_image_of_the_reserve_is_cut_and_keeps_the_time_when_it_came(
    database: Database, spool: Spool, clock: ManualClock
) -> None:
    encoded = of_the_reserve(spool)
    (file,) = spool.waiting()
    assert file.stat().st_size == ROOM > len(encoded)
    os.utime(file, (1_000_000_000, 1_000_000_000))
    Indexer(database, spool, clock).index_waiting()
    (row,) = instances(database)
    placed = spool.root / row.path
    assert is_whole(placed)
    assert placed.read_bytes()[PREAMBLE:] == encoded[PREAMBLE:]
    assert row.received_at == datetime.fromtimestamp(1_000_000_000, UTC)
    spool.close()


def test_what_the_disk_does_not_cut_waits_and_the_others_are_indexed(
    database: Database, spool: Spool, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_the_reserve(spool)
    put_into_inbox(spool, radiograph())

    def refuses(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken, capture_logs() as logs:
        broken.setattr(os, "truncate", refuses)
        Indexer(database, spool, clock).index_waiting()
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["image_not_cut"]
    assert len(instances(database)) == len(spool.waiting()) == 1
    assert stored(spool, "aside") == []
    Indexer(database, spool, clock).index_waiting()
    assert len(instances(database)) == 2
    assert spool.waiting() == []
    spool.close()
