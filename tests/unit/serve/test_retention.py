"""Retention: files go after their time or when the disk runs low, and no run leaves any behind."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydicom.dataset import FileDataset
from sqlalchemy import select
from structlog.testing import capture_logs

from dicom_node.model.states import JobState
from dicom_node.serve import disk
from dicom_node.serve import retention as retention_module
from dicom_node.serve.coordinator import Coordinator
from dicom_node.serve.retention import Retention
from dicom_node.store import chain, held, jobs, outbox, retention, retrievals
from dicom_node.store.database import Database
from dicom_node.store.jobs import JobResult, NewReport
from dicom_node.store.retention import Kept, Rules
from dicom_node.store.spool import Spool
from dicom_node.store.tables import Delivery, Instance, Report, Retrieval
from dicom_node.studies.indexing import Indexer
from tests.factories import ManualClock, radiograph
from tests.unit.serve.small_node import (
    QUIET,
    all_jobs,
    bundle,
    config_in,
    events,
    put_into_inbox,
    the_study,
)

DAY = 86_400.0
LEASE = timedelta(seconds=30)


class Site:
    """A node's data folder, and what its roles do to it, one step at a time."""

    def __init__(
        self, folder: Path, database: Database, spool: Spool, clock: ManualClock, **keys: Any
    ) -> None:
        self.config = config_in(folder, **keys)
        self.folder, self.database, self.spool, self.clock = folder, database, spool, clock
        self.coordinator = Coordinator(
            self.config, {"tiny": bundle(folder)}, database, spool, clock
        )
        self.retention = Retention(self.config, database, clock)
        clock.move(QUIET)

    def receive(self, *images: FileDataset) -> None:
        for image in images:
            put_into_inbox(self.spool, image)
        Indexer(self.database, self.spool, self.clock).index_waiting()
        self.clock.move(QUIET)
        self.coordinator.settle_and_route()

    def analyse(self) -> None:
        """Run the job that waits; its SR, in two forms, is on disk."""
        with self.database.write() as session:
            job = jobs.claim(session, "w", self.clock.now(), LEASE)
            assert job is not None
            uid = job.study.study_instance_uid
            made = []
            for form in ("", ".other"):
                file = self.config.reports_dir / uid / f"2.25.{job.id}{form}.dcm"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(b"report")
                path = str(file.relative_to(self.config.reports_dir))
                made.append(NewReport("SR", "1.2", f"2.25.{job.id}", path, "h"))
            first = NewReport("SR", "1.2", f"2.25.{job.id}", made[0].path, "h", None, made[1:])
            result = JobResult(JobState.DONE, [first], [])
            assert jobs.finish(session, job.id, "w", result, self.clock.now())

    def deliver(self) -> None:
        with self.database.write() as session:
            for row in session.scalars(select(Delivery).where(Delivery.state == "pending")):
                outbox.mark_sent(session, row.id, "status 0x0000 (Success)", self.clock.now())

    def finished(self, study: str) -> FileDataset:
        """Let a study with one image come, be analysed and be delivered."""
        image = radiograph(study=study)
        self.receive(image)
        self.analyse()
        self.deliver()
        return image

    def images(self) -> set[str]:
        return {path.parts[-3] for path in self.spool.root.glob("studies/*/*/*.dcm")}

    def reports(self) -> set[str]:
        return {path.parts[-2] for path in self.config.reports_dir.glob("*/*.dcm")}

    def folders(self) -> list[Path]:
        return [path for path in self.spool.root.glob("studies/**/*") if path.is_dir()]


@pytest.fixture
def make(
    tmp_path: Path, database: Database, spool: Spool, clock: ManualClock
) -> Callable[..., Site]:
    return lambda **keys: Site(tmp_path, database, spool, clock, **keys)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The disk's free MiB: each file that is there takes 100 of `all`."""
    room = SimpleNamespace(all=10_000, root=None)

    def usage(_: object) -> SimpleNamespace:
        number = len(list(room.root.glob("studies/*/*/*.dcm"))) if room.root else 0
        return SimpleNamespace(free=(room.all - 100 * number) * 1024 * 1024)

    monkeypatch.setattr(disk.shutil, "disk_usage", usage)
    return room


def test_images_go_after_their_days_and_reports_after_theirs(make: Callable[..., Site]) -> None:
    site = make(retention={"images_days": 14, "reports_days": 90})
    site.finished("1.2.3")
    site.clock.move(13 * DAY)
    site.finished("1.2.4")
    assert site.retention.purge_by_age() == []
    site.clock.move(1.1 * DAY)
    (gone,) = site.retention.purge_by_age()
    assert (gone.kind, gone.study_uid, gone.files, gone.why) == (Kept.IMAGES, "1.2.3", 1, "age")
    assert gone.bytes > 1000
    assert site.images() == {"1.2.4"}
    assert [path.name for path in site.folders() if path.name.startswith("1.2.3")] == []
    assert site.reports() == {"1.2.3", "1.2.4"}
    (event,) = events(site.database, "images_purged")
    assert (event["files"], event["bytes"], event["why"]) == (1, gone.bytes, "age")
    site.clock.move(90 * DAY)
    site.retention.purge_by_age()
    assert (site.images(), site.reports()) == (set(), set())
    assert len(all_jobs(site.database)) == 2, "what is known of them is kept"


def test_what_is_not_delivered_stays_however_old_it_is(make: Callable[..., Site]) -> None:
    site = make()
    site.receive(radiograph(study="1.2.3"))
    site.analyse()
    site.clock.move(1000 * DAY)
    assert site.retention.purge_by_age() == []
    assert (site.images(), site.reports()) == ({"1.2.3"}, {"1.2.3"})
    site.deliver()
    assert site.retention.purge_by_age() == [], "its days count from the delivery"


def test_nothing_goes_where_the_site_keeps_everything(make: Callable[..., Site]) -> None:
    site = make(retention={"images_days": None, "reports_days": None, "when_disk_low": False})
    site.finished("1.2.3")
    site.clock.move(1000 * DAY)
    assert site.retention.purge_by_age() == site.retention.purge_when_low() == []


def test_when_the_disk_runs_low_the_oldest_go_until_there_is_room(
    make: Callable[..., Site], free: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make(
        node={"ae_title": "AINODE", "data_dir": "data", "min_free_mb": 100, "warn_free_mb": 300}
    )
    free.root = site.spool.root
    for study in ("1.2.3", "1.2.4", "1.2.5"):
        site.finished(study)
        site.clock.move(60)
    site.receive(radiograph(study="1.2.6"))
    free.all = 590
    monkeypatch.setattr(retention_module, "_size", lambda _: 100 * 1024 * 1024)
    planned = site.retention.would_purge()
    assert [item.study_uid for item in planned] == ["1.2.3", "1.2.4"]
    assert site.images() == {"1.2.3", "1.2.4", "1.2.5", "1.2.6"}, "nothing went yet"
    gone = site.retention.purge_when_low()
    assert [(item.study_uid, item.why) for item in gone] == [
        ("1.2.3", "disk low"),
        ("1.2.4", "disk low"),
    ]
    free.all = 100
    with capture_logs() as logs:
        site.retention.purge_when_low()
    assert site.images() == {"1.2.6"}, "its job waits"
    assert [line["event"] for line in logs] == ["purged", "nothing_to_purge"]


def test_a_run_that_was_killed_between_the_word_and_the_deed_is_finished_by_the_next(
    make: Callable[..., Site],
) -> None:
    site = make()
    site.finished("1.2.3")
    study = the_study(site.database, "1.2.3")
    for kind in (Kept.IMAGES, Kept.REPORTS):
        with site.database.write() as session:
            assert retention.give_up(session, kind, study.id, Rules(), site.clock.now())
    assert (site.images(), site.reports()) == ({"1.2.3"}, {"1.2.3"})
    site.retention.purge_by_age()
    assert (site.images(), site.reports()) == (set(), set())


def test_a_file_that_cannot_be_removed_is_told_and_holds_up_no_other(
    make: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"images_days": 7, "reports_days": 7, "records_days": 7}
    site = make(retention=keys)
    for study in ("1.2.1", "1.2.2"):
        site.finished(study)
    unlink = Path.unlink

    def refuse(file: Path, missing_ok: bool = False) -> None:
        if "studies/1.2.1" in file.as_posix():
            raise PermissionError(1, "Operation not permitted")
        unlink(file, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    site.clock.move(8 * DAY)
    with capture_logs() as logs:
        site.retention.purge_by_age()
        site.finished("1.2.3")
        site.clock.move(8 * DAY)
        site.retention.purge_by_age()
    assert site.images() == {"1.2.1"}
    told = [entry for entry in logs if entry["event"] == "files_not_removed"]
    assert [(entry["study_uid"], entry["why"]) for entry in told] == [
        ("1.2.1", "Operation not permitted")
    ]
    assert [event["why"] for event in events(site.database, "files_not_removed")] == [
        "Operation not permitted"
    ]
    # what is known of the study stays: without it nobody would find the file again
    assert len(events(site.database, "records_purged")) == 2
    assert the_study(site.database, "1.2.1")
    monkeypatch.undo()
    site.retention.purge_by_age()
    assert site.images() == set()
    assert len(events(site.database, "records_purged")) == 3


def test_what_the_dry_run_says_is_what_then_goes(make: Callable[..., Site]) -> None:
    site = make(retention={"images_days": 1, "reports_days": 2})
    for study in ("1.2.3", "1.2.4"):
        site.finished(study)
    site.clock.move(3 * DAY)
    planned = site.retention.would_purge()
    assert len(planned) == 4
    assert (site.images(), site.reports()) == ({"1.2.3", "1.2.4"}, {"1.2.3", "1.2.4"})
    assert site.retention.purge_by_age() == planned


def test_a_late_image_of_a_purged_study_holds_it_until_the_others_come_again(
    make: Callable[..., Site],
) -> None:
    site = make(retention={"images_days": 1})
    first = site.finished("1.2.3")
    site.clock.move(2 * DAY)
    site.retention.purge_by_age()
    late = radiograph(study="1.2.3")
    site.receive(late)
    study = the_study(site.database, "1.2.3")
    assert study.held_reason == "images_purged"
    assert "1 of its images were purged" in (study.held_text or "")
    assert len(all_jobs(site.database)) == 1, "nothing runs on a part of a study"
    site.receive(first)
    assert the_study(site.database, "1.2.3").held_at is None
    assert [len(job.inputs) for job in all_jobs(site.database)] == [1, 2]
    assert site.images() == {"1.2.3"}


def test_a_person_may_let_the_rest_of_a_purged_study_go_on(make: Callable[..., Site]) -> None:
    site = make(retention={"images_days": 1})
    site.finished("1.2.3")
    site.clock.move(2 * DAY)
    site.retention.purge_by_age()
    late = radiograph(study="1.2.3")
    site.receive(late)
    with site.database.write() as session:
        held.release(session, held.find(session, "1.2.3"), site.clock.now(), "me", "enough")
    site.coordinator.settle_and_route()
    assert all_jobs(site.database)[-1].inputs == [str(late.SOPInstanceUID)]


def test_records_and_their_story_go_last(make: Callable[..., Site]) -> None:
    site = make(retention={"images_days": 1, "reports_days": 2, "records_days": 3})
    site.finished("1.2.3")
    with site.database.write() as session:
        retrievals.begin(session, "1.2.3", "pacs", {}, site.clock.now())
        chain.put(session, chain.next_links(session))
    site.clock.move(4 * DAY)
    kinds = [item.kind for item in site.retention.purge_by_age()]
    assert kinds == [Kept.IMAGES, Kept.REPORTS, Kept.RECORDS]
    with site.database.read() as session:
        assert session.scalars(select(Instance)).all() == []
        assert session.scalars(select(Report)).all() == []
    assert events(site.database, "records_purged"), "the last word is younger than it may be"
    assert events(site.database, "study_begun") == []
    with site.database.read() as session:
        assert session.scalars(select(Retrieval)).all() == []


@pytest.mark.parametrize(
    ("keep", "seconds"),
    [
        ({}, 3600),
        ({"images_days": 0.04, "reports_days": None}, 864),
        ({"images_days": None, "reports_days": None}, 3600),
    ],
)
def test_what_is_kept_for_hours_goes_within_a_quarter_of_them(
    make: Callable[..., Site], keep: dict[str, float | None], seconds: float
) -> None:
    assert make(retention=keep).retention.every == pytest.approx(seconds)
