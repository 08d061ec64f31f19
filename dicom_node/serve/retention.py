"""Retention: what is finished and delivered goes after its time, or when the disk runs low."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy.orm import Session

from dicom_node.clock import Clock
from dicom_node.config import NodeConfig
from dicom_node.serve.disk import DiskLevel, disk_state
from dicom_node.store import audit, chain, exchanges, retention
from dicom_node.store.database import Database
from dicom_node.store.retention import Finished, Kept, Rules
from dicom_node.store.watch_tables import REPOSITORY, AuditMark

_log = structlog.get_logger()

_BATCH: Final = 100
_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Purged:
    """What went, or would go, of one study.

    Attributes:
        why: "age" or "disk low".
    """

    kind: Kept
    study_uid: str
    finished_at: datetime
    files: int
    bytes: int
    why: str


class Retention:
    """Gives up what the configuration says need not be kept.

    Where hosts have a data folder each, it gives up what this one holds.
    """

    def __init__(self, config: NodeConfig, database: Database, clock: Clock) -> None:
        self._config = config
        self._database = database
        self._clock = clock
        self._host = config.this_host
        self._rules = Rules(config.retention.purge_committed)
        self._folders = {Kept.IMAGES: config.spool_dir, Kept.REPORTS: config.reports_dir}
        # studies that have files which the disk does not let go
        self._stuck: dict[Kept, set[str]] = {Kept.IMAGES: set(), Kept.REPORTS: set()}

    @property
    def every(self) -> float:
        """Seconds between two looks at what is old enough: an hour, less where days are hours."""
        keep = self._config.retention
        days = (keep.images_days, keep.reports_days, keep.records_days)
        shortest = min((number for number in days if number is not None), default=math.inf)
        return min(_HOUR, max(1.0, shortest * 86_400 / 4))

    def purge_by_age(self) -> list[Purged]:
        """Give up what is older than it has to be."""
        self._finish_interrupted()
        gone = [
            purged for item in self._of_age() if (purged := self._purge(*item, "age")) is not None
        ]
        days = self._config.retention.records_days
        if days is not None:
            now = self._clock.now()
            with self._database.write() as session:
                # what the audit repository has not got yet stays until it has
                mark = session.get(AuditMark, REPOSITORY) if self._config.audit else None
                up_to = mark.position if mark is not None else None
                before = now - timedelta(days=days)
                chain.forget(session, before, now, up_to=up_to)
                exchanges.forget(session, before)
        _tell(gone)
        return gone

    def purge_when_low(self) -> list[Purged]:
        """Give up the oldest images until the disk is above its watermark again."""
        gone: list[Purged] = []
        if self._is_low():
            for item in self._finished(Kept.IMAGES, None):
                purged = self._purge(Kept.IMAGES, item, "disk low")
                if purged is not None:
                    gone.append(purged)
                if not self._is_low():
                    break
            _tell(gone)
            if self._is_low():
                _log.warning(
                    "nothing_to_purge",
                    why="all images that are left are not finished, not delivered or promised",
                    fix="give the data folder more space; `dicom-node status` shows what waits",
                )
        return gone

    def would_purge(self) -> list[Purged]:
        """Return what `purge_by_age` and then `purge_when_low` would do now."""
        planned = [self._plan(kind, item, "age") for kind, item in self._of_age()]
        state = disk_state(self._config)
        missing = state.warn_below * 1024 * 1024 - state.free * 1024 * 1024
        if self._config.retention.when_disk_low:
            missing -= sum(item.bytes for item in planned)
            known = {item.study_uid for item in planned if item.kind is Kept.IMAGES}
            for item in self._finished(Kept.IMAGES, None):
                if missing <= 0:
                    break
                if item.study_uid not in known:
                    planned.append(self._plan(Kept.IMAGES, item, "disk low"))
                    missing -= planned[-1].bytes
        return planned

    def _of_age(self) -> Iterator[tuple[Kept, Finished]]:
        keep = self._config.retention
        days = {
            Kept.IMAGES: keep.images_days,
            Kept.REPORTS: keep.reports_days,
            Kept.RECORDS: keep.records_days,
        }
        for kind, number in days.items():
            if number is not None:
                for item in self._finished(kind, self._clock.now() - timedelta(days=number)):
                    yield kind, item

    def _finished(self, kind: Kept, before: datetime | None) -> list[Finished]:
        with self._database.read() as session:
            return retention.finished(session, kind, self._rules, before, self._host)

    def _plan(self, kind: Kept, item: Finished, why: str) -> Purged:
        with self._database.read() as session:
            files = (
                []
                if kind is Kept.RECORDS
                else retention.paths(session, kind, item.study_id, self._host)
            )
        size = sum(_size(self._folders[kind] / path) for path in files)
        return Purged(kind, item.study_uid, item.finished_at, len(files), size, why)

    def _purge(self, kind: Kept, item: Finished, why: str) -> Purged | None:
        """Give up a study's files of a kind; None: it may not go any more, or not yet."""
        if kind is Kept.RECORDS and any(item.study_uid in uids for uids in self._stuck.values()):
            return None  # without its rows nobody would find its files again
        plan = self._plan(kind, item, why)
        with self._database.write() as session:
            if not retention.give_up(
                session,
                kind,
                item.study_id,
                self._rules,
                self._clock.now(),
                self._host,
                files=plan.files,
                bytes=plan.bytes,
                why=why,
                finished_at=item.finished_at.isoformat(),
            ):
                return None
        if kind is not Kept.RECORDS:
            self._remove(kind, [item.study_uid])
        return plan

    def _remove(self, kind: Kept, study_uids: list[str], newest: float = math.inf) -> None:
        """Remove the files that are given up, and the folders that are empty then.

        Args:
            newest: A file that was written after this time stays.
        """
        root = self._folders[kind]
        stuck: dict[str, str] = {}
        with self._database.write() as session:
            folders = set()
            for path in retention.given_up(session, kind, study_uids, self._host):
                if newest < math.inf and _written(root / path) > newest:
                    continue
                try:
                    (root / path).unlink(missing_ok=True)
                except OSError as error:
                    uid = next(part for part in Path(path).parts if part in study_uids)
                    stuck[uid] = error.strerror or type(error).__name__
                    continue
                folders.update(list((root / path).relative_to(root).parents)[:-1])
            new = sorted(stuck.keys() - self._stuck[kind])
            for uid in new:
                self._record_stuck(session, kind, uid, stuck[uid])
            if self._host is not None:
                done = [uid for uid in study_uids if uid not in stuck]
                retention.removed(session, kind, done, self._host)
        self._stuck[kind] = self._stuck[kind] - set(study_uids) | stuck.keys()
        for uid in new:
            fix = "let the node's user remove them; they are tried again in every run"
            _log.error("files_not_removed", study_uid=uid, kind=str(kind), why=stuck[uid], fix=fix)
        for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
            if folder.as_posix() != "studies":
                with contextlib.suppress(OSError):  # not empty: a late image is in it
                    (root / folder).rmdir()

    def _record_stuck(self, session: Session, kind: Kept, uid: str, why: str) -> None:
        """The trail says that they were given up: that they are there all the same, it says too."""
        told: dict[str, Any] = {"files": str(kind), "why": why}
        if self._host is not None:
            told["host"] = self._host
        audit.record(session, self._clock.now(), "files_not_removed", study_uid=uid, **told)

    def _finish_interrupted(self) -> None:
        """Remove what an earlier run has given up and not removed."""
        # a worker writes an object before the index knows that it is with this host
        reports_before = math.inf if self._host is None else time.time() - _HOUR
        for kind, folder, newest in (
            (Kept.IMAGES, "studies", math.inf),
            (Kept.REPORTS, ".", reports_before),
        ):
            place = self._folders[kind] / folder
            uids = [entry.name for entry in place.iterdir()] if place.is_dir() else []
            for start in range(0, len(uids), _BATCH):
                self._remove(kind, uids[start : start + _BATCH], newest)

    def _is_low(self) -> bool:
        if not self._config.retention.when_disk_low:
            return False
        return disk_state(self._config).level is not DiskLevel.OK


def _tell(gone: list[Purged]) -> None:
    for kind in Kept:
        of_kind = [item for item in gone if item.kind is kind]
        if of_kind:
            _log.info(
                "purged",
                kind=str(kind),
                studies=len(of_kind),
                bytes=sum(item.bytes for item in of_kind),
                why=of_kind[0].why,
            )


def _written(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return -math.inf


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
