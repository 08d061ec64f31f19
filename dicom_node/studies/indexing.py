"""From the spool to the index: what was acknowledged becomes part of its study."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
from pydicom import dcmread
from sqlalchemy.exc import DataError, DBAPIError, StatementError

from dicom_node.clock import Clock
from dicom_node.errors import NodeError, NotCutError
from dicom_node.model.instances import InstanceFacts, facts_of
from dicom_node.store import audit, index
from dicom_node.store.database import Database
from dicom_node.store.spool import Plan, Spool

_log = structlog.get_logger()

_BATCH: Final = 200
_LONGEST_BURST: Final = 3.0
_PATIENCE: Final = 60.0
"""Seconds for which a file that the disk or a shortage keeps from being read is tried again."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A file of the inbox, read; `received_at` is when it was written."""

    facts: InstanceFacts
    plan: Plan
    received_at: datetime


class Indexer:
    """Indexes the spool's inbox, in batches, off the path of the acknowledgement.

    The row is committed first and the file moved to its place after: killed in between, the
    file is still in the inbox, and indexing it again finds its own row and only moves it.

    Args:
        host: Name of the host whose spool it is; None: all hosts share it.
    """

    def __init__(
        self,
        database: Database,
        spool: Spool,
        clock: Clock,
        *,
        hold_changed_patient: bool = True,
        host: str | None = None,
    ) -> None:
        self._database = database
        self._host = host
        self._hold = hold_changed_patient
        self._spool = spool
        self._clock = clock
        self._one_at_a_time = threading.Lock()
        self._burst: tuple[float, int] | None = None
        self._unread: dict[Path, float] = {}

    def index_when_quiet(self) -> int:
        """Index everything that waits, unless more has come since the last call.

        To be called several times a second. A study comes in one burst, and while it comes its
        sender has the processors and the disk; for three seconds at most, then it is indexed as
        it comes.
        """
        waiting = len(self._spool.waiting())
        now = time.monotonic()
        began, before = self._burst or (now, 0)
        if waiting > before and now - began < _LONGEST_BURST:
            self._burst = (began, waiting)
            return 0
        self._burst = None
        return self.index_waiting() if waiting else 0

    @property
    def in_burst(self) -> bool:
        """Whether `index_when_quiet` leaves images alone that are streaming in."""
        return self._burst is not None

    @property
    def held_up(self) -> bool:
        """Whether images could not be read just now, and are tried again: nothing may settle."""
        return bool(self._unread)

    def index_waiting(self) -> int:
        """Index everything that waits; returns the number of files handled."""
        with self._one_at_a_time:
            waiting = self._spool.waiting()
            self._unread = {file: since for file, since in self._unread.items() if file in waiting}
            for start in range(0, len(waiting), _BATCH):
                self._index(waiting[start : start + _BATCH])
            return len(waiting)

    def _index(self, files: list[Path]) -> None:
        # read first: the database is locked for writing only while rows are written
        good: list[_Read] = []
        bad: list[tuple[Path, str]] = []
        for file in files:
            try:
                good.append(self._read(file))
                self._unread.pop(file, None)
            except NotCutError as error:
                # it stays where it is, and is looked at again
                _log.error("image_not_cut", file=error.what, why=error.why, fix=error.fix)
            except Exception as error:  # noqa: BLE001 - one bad file must not hold up the rest
                if _is_of_the_machine(error) and self._may_pass(file, error):
                    continue
                # the text of a parser's exception may hold patient data: its type does not
                why = error.why if isinstance(error, NodeError) else type(error).__name__
                bad.append((file, why))
        try:
            self._keep(good, bad)
        except (StatementError, ValueError) as error:
            if not _is_of_the_data(error):
                raise
            for item in good:
                try:
                    self._keep([item], [])
                except (StatementError, ValueError) as of_one:
                    if not _is_of_the_data(of_one):
                        raise
                    bad.append((item.plan.source, "the database cannot hold its header"))
            self._keep([], bad)

    def _may_pass(self, file: Path, error: Exception) -> bool:
        """A file that could not be read: is it left where it is, to be tried again?"""
        now = time.monotonic()
        if file not in self._unread:
            why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else ""
            _log.error(
                "image_not_read",
                file=file.name,
                why=why or type(error).__name__,
                fix="it is tried again for a minute; check the disk, open files and memory",
            )
        if now - self._unread.setdefault(file, now) < _PATIENCE:
            return True
        del self._unread[file]
        return False

    def _keep(self, good: list[_Read], bad: list[tuple[Path, str]]) -> None:
        """Write the rows, then move the files."""
        planned: list[tuple[Plan, index.Indexed]] = []
        received: Counter[tuple[str, str]] = Counter()
        now = self._clock.now()
        with self._database.write() as session:
            batch = index.Batch(session, {item.facts.sop_instance_uid for item in good})
            for item in good:
                arrival = index.Arrival(
                    item.facts, item.plan.path, item.plan.sha256, item.received_at, self._host
                )
                outcome = index.add_instance(
                    session, arrival, now, batch, hold_changed_patient=self._hold
                )
                planned.append((item.plan, outcome))
                received[item.facts.study_instance_uid, item.facts.sender] += 1
            for (study_uid, sender), number in received.items():
                audit.record(
                    session,
                    now,
                    "instances_received",
                    study_uid=study_uid,
                    peer=sender,
                    number=number,
                )
            for file, why in bad:
                # told already, when it was interrupted before the move
                if not audit.is_recorded(session, "file_set_aside", file=file.name):
                    audit.record(session, now, "file_set_aside", file=file.name, why=why)
        self._spool.sync(
            [
                self._spool.place(plan, keep_aside=outcome is index.Indexed.CONFLICT)
                for plan, outcome in planned
            ]
        )
        for file, why in bad:
            self._spool.set_aside(file)
            _log.error("file_set_aside", file=file.name, why=why)
        for (study_uid, sender), number in received.items():
            _log.info("instances_received", study_uid=study_uid, peer=sender, number=number)

    def _read(self, file: Path) -> _Read:
        received_at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        sha256 = self._spool.finish(file)  # which changes the file's time when it cuts it
        header = dcmread(file, stop_before_pixels=True)
        meta = header.file_meta
        facts = facts_of(
            header,
            str(meta.TransferSyntaxUID),
            sender=str(meta.get("SourceApplicationEntityTitle", "")).strip(),
        )
        plan = self._spool.plan(
            file,
            sha256,
            facts.study_instance_uid,
            facts.series_instance_uid,
            facts.sop_instance_uid,
        )
        return _Read(facts, plan, received_at)


def _is_of_the_machine(error: Exception) -> bool:
    """Whether it says nothing of the file: the disk's, or a shortage of memory or open files."""
    # pydicom raises OSErrors without a number on what it cannot parse
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and bool(error.errno))


def _is_of_the_data(error: Exception) -> bool:
    """Whether the database refused what it was given: anything else is its own trouble."""
    return not isinstance(error, DBAPIError) or isinstance(error, DataError)
