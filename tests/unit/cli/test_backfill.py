"""`dicom-node backfill`: what it says and how it ends; the archive is a scripted one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from pydicom.uid import generate_uid

from dicom_node.cli import backfill
from dicom_node.serve import roles
from dicom_node.serve.locks import hold
from dicom_node.store.database import Database
from dicom_node.store.spool import Spool
from tests.factories import radiograph
from tests.peers.archives import taken
from tests.peers.faulty_archive import FaultyArchive, faulty
from tests.unit.cli.command import Ended, dicom_node
from tests.unit.serve.small_node import config_in

DAYS = ("--from", "2026-01-01", "--to", "2026-01-03")


class Site:
    """A node's folder and an archive that it pulls from by C-GET."""

    def __init__(self, folder: Path, archive: FaultyArchive) -> None:
        self.archive = archive
        self.config_file = folder / "node.yaml"
        peer = {"ae_title": "FAULTY", "host": "127.0.0.1", "port": archive.port, "retrieve": "get"}
        pacs = {"ae_title": "PACS", "host": "127.0.0.1", "port": 104}
        self.config = config_in(
            folder,
            peers={"pacs": peer, "mover": pacs},
            accept_from=["pacs"],
            retry={"first_seconds": 0.01},
            routes=[],
        )
        database = Database(self.config.database_url)
        database.migrate()
        database.close()

    def run(self, *arguments: object, peer: str = "pacs") -> Ended:
        return dicom_node(
            *("backfill", "--config", self.config_file, "--peer", peer, "--modality", "DX"),
            *DAYS,
            *arguments,
        )

    @property
    def taken(self) -> set[str]:
        return set(taken(Spool(self.config.spool_dir)))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    # it would tie the logs of all later tests to this test's output
    monkeypatch.setattr(backfill, "set_up_logging", lambda role: None)
    monkeypatch.setattr(roles, "bundles_of", lambda config: {})
    images = [radiograph(StudyDate=f"2026010{day}") for day in (1, 1, 2, 3, 4)]
    with structlog.testing.capture_logs(), faulty(FaultyArchive(images)) as archive:
        yield Site(tmp_path, archive)


def test_numbers_are_told_and_the_images_are_in_the_spool(site: Site) -> None:
    looked = site.run("--dry-run")
    assert looked.status == 0, looked.err
    assert looked.lines == ["4 studies found, 4 to pull"]
    assert not site.taken
    done = site.run("--yes")
    assert done.status == 0, done.err
    assert done.lines[-1] == "4 studies found, 4 pulled"
    assert site.taken == {str(image.SOPInstanceUID) for image in site.archive.images[:4]}
    again = site.run("--yes")
    assert again.lines[-1] == "4 studies found, 4 already here"


def test_what_failed_is_told_with_its_reason_and_ends_in_status_1(site: Site) -> None:
    lost = site.archive.images[1]
    site.archive.fails = {str(lost.SOPInstanceUID)}
    done = site.run("--yes")
    assert done.status == 1
    assert f"failed: {lost.StudyInstanceUID}: 0 of 1 images came" in done.out
    assert done.lines[-1] == "4 studies found, 3 pulled, 1 failed"
    assert "run the same command again" in done.err
    told = site.run("--yes", "--json")
    assert list(told.json["failures"]) == [str(lost.StudyInstanceUID)]
    assert (told.json["already_here"], told.json["failed"]) == (3, 1)
    site.archive.fails = set()
    assert site.run("--yes").lines[-1] == "4 studies found, 3 already here, 1 pulled"


def test_a_limit_leaves_the_rest_for_the_next_run(site: Site) -> None:
    first = site.run("--yes", "--limit", "3")
    assert first.status == 0, first.err
    assert first.lines[-1] == "4 studies found, 3 pulled, 1 left"
    second = site.run("--yes", "--limit", "3")
    assert second.lines[-1] == "4 studies found, 3 already here, 1 pulled"


def test_a_day_that_the_archive_cuts_is_named(site: Site) -> None:
    study_time = site.archive.images[0].StudyTime
    site.archive.images = [radiograph(StudyTime=study_time) for _ in range(4)]
    site.archive.limit = 3
    done = site.run("--dry-run")
    assert done.status == 1
    assert "cut: 2026-01-02: pacs does not tell all studies of it" in done.out


def test_a_study_that_an_archive_breaks_off_at_each_time_does_not_hold_up_others(
    site: Site,
) -> None:
    study, series = generate_uid(), generate_uid()
    site.archive.images = [
        *(radiograph(study=study, SeriesInstanceUID=series, StudyDate="20260101") for _ in "123"),
        radiograph(StudyDate="20260102"),
    ]
    site.archive.dies_after = 2
    done = site.run("--yes")
    assert done.status == 1
    assert f"failed: {study}: C-GET of pacs: no answer: timed out or" in done.out
    assert done.lines[-1] == "2 studies found, 1 pulled, 1 failed"
    site.archive.dies_after = None
    assert site.run("--yes").lines[-1] == "2 studies found, 1 already here, 1 pulled"
    assert len(site.taken) == 4


def test_nothing_of_a_patient_is_told(site: Site) -> None:
    for image in site.archive.images:
        site.archive.fails.add(str(image.SOPInstanceUID))
    ended = [site.run("--yes"), site.run("--dry-run"), site.run("--yes", "--json")]
    for text in ("Phantom", "PHANTOM", "Nö^Body"):
        assert all(text not in done.out + done.err for done in ended)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give --yes, or --dry-run"),
        (("--yes", "--from", "2026-03-01"), "give the earlier day first"),
        (("--yes", "--body-part", "zzz"), "the vocabulary does not know it"),
        (("--yes", "--modality", "dx,cr"), "give --modality several times: DX CR"),
        (("--yes", "--rate", "fast"), "write 30/min"),
        (("--yes", "--hours", "nights"), "write 20:00-06:00"),
        (("--yes", "--peer", "pacz"), "no such peer"),
        (("--yes", "--peer", "mover"), "set `peers.mover.retrieve: get`"),
    ],
)
def test_wrong_orders_are_told_before_anything_is_asked(
    site: Site, arguments: tuple[str, ...], told: str
) -> None:
    ended = site.run(*arguments)
    assert ended.status == 2, ended.out
    assert told in ended.err
    assert not site.archive.asked


def test_a_second_one_at_the_same_time_is_refused(site: Site) -> None:
    held = hold(site.config.node.data_dir, "backfill")
    assert held is not None
    with held:
        ended = site.run("--yes")
    assert ended.status == 1
    assert "another one runs" in ended.err
