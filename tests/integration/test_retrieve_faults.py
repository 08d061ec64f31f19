"""Archives with faults: what they do wrong is told, and nothing of it is lost or kept half."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from pydicom.uid import generate_uid

from dicom_node.errors import RetrieveError, UnreachableError
from dicom_node.retrieve import Finder, GetArchive, Line, MoveArchive, studies_of_day
from dicom_node.serve.pulled import SpoolStorage
from dicom_node.store.spool import Spool
from tests.factories import radiograph
from tests.peers.archives import taken
from tests.peers.calling import US
from tests.peers.faulty_archive import FaultyArchive, faulty
from tests.unit.serve.small_node import config_in

DAY = date(2026, 1, 2)


@pytest.fixture
def archive() -> Iterator[FaultyArchive]:
    study, series = generate_uid(), generate_uid()
    images = [radiograph(study=study, SeriesInstanceUID=series) for _ in range(3)]
    with faulty(FaultyArchive(images)) as running:
        yield running


@pytest.fixture
def getting(archive: FaultyArchive, tmp_path: Path) -> Iterator[tuple[GetArchive, Spool]]:
    config = config_in(tmp_path)
    spool = Spool(config.spool_dir)
    storage = SpoolStorage(config, spool, archive.peer.ae_title)
    puller = GetArchive(Line("pacs", archive.peer, US), storage)
    yield puller, spool
    puller.close()
    spool.close()


@pytest.mark.parametrize("status", [0xA700, 0xFE00])
def test_a_list_that_the_peer_cuts_is_asked_for_in_parts(status: int) -> None:
    images = [
        radiograph(StudyTime=f"{hour:02}{minute:02}00")
        for hour in (8, 9, 10)
        for minute in range(0, 60, 10)
    ]
    with faulty(FaultyArchive(images, limit=5, cut_status=status)) as running:
        finder = Finder(Line("pacs", running.peer, US))
        found = studies_of_day(finder.studies, DAY, "DX")
        finder.close()
    assert {item.study_instance_uid for item in found.studies} == {
        str(image.StudyInstanceUID) for image in images
    }
    assert not found.cut
    assert all("PatientName" not in keys for keys in running.asked)


def test_series_that_the_peer_cuts_are_an_error(archive: FaultyArchive) -> None:
    study = str(archive.images[0].StudyInstanceUID)
    archive.images += [radiograph(study=study) for _ in range(9)]
    archive.limit = 4
    finder = Finder(Line("pacs", archive.peer, US))
    with pytest.raises(RetrieveError, match="only 4 matches at SERIES level"):
        finder.series(study)
    finder.close()


def test_what_the_peer_cannot_send_is_counted(
    archive: FaultyArchive, getting: tuple[GetArchive, Spool]
) -> None:
    puller, spool = getting
    lost = str(archive.images[1].SOPInstanceUID)
    archive.fails = {lost}
    study = str(archive.images[0].StudyInstanceUID)
    pulled = puller.pull(study, puller.series(study))
    assert not pulled.ok
    assert (pulled.completed, pulled.failed) == (2, 1)
    assert set(taken(spool)) == {str(image.SOPInstanceUID) for image in archive.images} - {lost}


def test_a_peer_that_dies_in_the_middle_leaves_whole_images_only(
    archive: FaultyArchive, getting: tuple[GetArchive, Spool]
) -> None:
    puller, spool = getting
    archive.dies_after = 2
    study = str(archive.images[0].StudyInstanceUID)
    series = puller.series(study)
    with pytest.raises(UnreachableError, match="no answer"):
        puller.pull(study, series)
    assert len(taken(spool)) == 2
    archive.dies_after = None
    pulled = puller.pull(study, series)
    assert (pulled.completed, pulled.ok) == (3, True)


def test_images_that_the_disk_does_not_take_are_refused(
    archive: FaultyArchive, tmp_path: Path
) -> None:
    config = config_in(
        tmp_path, node={"ae_title": "AINODE", "data_dir": "data", "min_free_mb": 10**9}
    )
    spool = Spool(config.spool_dir)
    puller = GetArchive(
        Line("pacs", archive.peer, US), SpoolStorage(config, spool, archive.peer.ae_title)
    )
    study = str(archive.images[0].StudyInstanceUID)
    pulled = puller.pull(study, puller.series(study))
    puller.close()
    assert (pulled.completed, pulled.failed, pulled.ok) == (0, 3, False)
    assert not taken(spool)


def test_a_destination_that_the_peer_does_not_know_is_told_with_its_cure(
    archive: FaultyArchive,
) -> None:
    mover = MoveArchive(Line("pacs", archive.peer, US), "AINODE")
    study = str(archive.images[0].StudyInstanceUID)
    with pytest.raises(RetrieveError, match="add our AE title"):
        mover.pull(study, mover.series(study))
    mover.close()


@pytest.mark.parametrize(("offers", "service"), [("find", "C-MOVE"), ("move", "C-FIND")])
def test_a_service_that_the_peer_does_not_offer_is_named(offers: str, service: str) -> None:
    image = radiograph()
    study = str(image.StudyInstanceUID)
    with faulty(FaultyArchive([image]), offers=offers) as running:
        mover = MoveArchive(Line("pacs", running.peer, US), "AINODE")
        with pytest.raises(RetrieveError, match=f"{service} of pacs"):
            mover.pull(study, mover.series(study))
        mover.close()


def test_an_association_that_ended_meanwhile_is_opened_again(archive: FaultyArchive) -> None:
    finder = Finder(Line("pacs", archive.peer, US))
    study = str(archive.images[0].StudyInstanceUID)
    assert len(finder.series(study)) == 1
    association = finder._association()
    association.abort()
    assert len(finder.series(study)) == 1
    finder.close()
