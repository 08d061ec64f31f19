"""What the disk, the memory or the database refuses for a moment costs no image its place."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from dicom_node.store import index
from dicom_node.store.database import Database
from dicom_node.store.reserve import ROOM
from dicom_node.store.seal import PREAMBLE, dataset_start, is_whole
from dicom_node.store.spool import Spool
from dicom_node.studies import indexing
from dicom_node.studies.indexing import Indexer
from tests.factories import ManualClock, radiograph
from tests.unit.serve.small_node import events, put_into_inbox
from tests.unit.studies.indexed import instances, stored


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


@pytest.mark.parametrize(
    "error", [OSError(errno.EMFILE, "x"), OSError(errno.EIO, "x"), MemoryError()], ids=repr
)
def test_a_shortage_of_the_moment_takes_no_image_out_of_its_study(
    database: Database,
    spool: Spool,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    indexer = Indexer(database, spool, clock)
    put_into_inbox(spool, radiograph())

    def fails(*_: object) -> None:
        raise error

    with monkeypatch.context() as short, capture_logs() as logs:
        short.setattr(Spool, "finish", fails)
        indexer.index_waiting()
        indexer.index_waiting()
    assert [line["event"] for line in logs] == ["image_not_read"]
    assert indexer.held_up
    assert stored(spool, "aside") == []
    indexer.index_waiting()
    assert len(instances(database)) == 1
    assert not indexer.held_up


def test_what_cannot_be_read_for_a_minute_goes_aside_and_holds_up_nothing(
    indexer: Indexer, database: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_into_inbox(spool, radiograph())

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "x")

    monkeypatch.setattr(Spool, "finish", fails)
    indexer.index_waiting()
    monkeypatch.setattr(indexing, "_PATIENCE", 0)
    indexer.index_waiting()
    assert len(stored(spool, "aside")) == 1
    assert len(events(database, "file_set_aside")) == 1
    assert not indexer.held_up


def test_a_number_that_is_none_is_no_number(
    indexer: Indexer, database: Database, spool: Spool
) -> None:
    image = radiograph()
    image.add_new("AcquisitionDuration", "FD", float("nan"))
    put_into_inbox(spool, image)
    indexer.index_waiting()
    (row,) = instances(database)
    assert "AcquisitionDuration" not in row.attributes


def test_a_header_that_the_database_cannot_hold_holds_up_no_other(
    indexer: Indexer, database: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, *good = [radiograph() for _ in range(3)]
    for image in (bad, *good):
        put_into_inbox(spool, image)
    add = index.add_instance

    def refuses(session: Session, arrival: index.Arrival, *args: Any, **more: Any) -> index.Indexed:
        outcome = add(session, arrival, *args, **more)
        if arrival.facts.sop_instance_uid == bad.SOPInstanceUID:
            raise DataError("INSERT", {}, ValueError("Doe^Jane"))
        return outcome

    monkeypatch.setattr(index, "add_instance", refuses)
    with capture_logs() as logs:
        indexer.index_waiting()
    uids = {str(image.SOPInstanceUID) for image in good}
    assert {row.sop_instance_uid for row in instances(database)} == uids
    assert len(stored(spool, "aside")) == 1
    (told,) = events(database, "file_set_aside")
    assert told["why"] == "the database cannot hold its header"
    assert "Doe" not in f"{logs}{told}"


def test_trouble_of_the_database_leaves_every_image_where_it_is(
    indexer: Indexer, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_into_inbox(spool, radiograph())

    def away(*_: Any, **__: Any) -> index.Indexed:
        raise OperationalError("INSERT", {}, ValueError("away"))

    monkeypatch.setattr(index, "add_instance", away)
    with pytest.raises(OperationalError):
        indexer.index_waiting()
    assert len(spool.waiting()) == 1
    assert stored(spool, "aside") == []
