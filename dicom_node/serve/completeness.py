"""Whether a study that has become quiet is complete: a peer is asked how many images it has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog

from dicom_node.clock import Clock
from dicom_node.config import NodeConfig
from dicom_node.errors import NodeError, UnreachableError
from dicom_node.logs import error_facts
from dicom_node.retrieve.found import Catalogue
from dicom_node.routing.reading import NO_IMAGE
from dicom_node.serve.archives import catalogue_of
from dicom_node.store import audit, index, retrievals
from dicom_node.store.database import Database
from dicom_node.store.tables import Study

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Compared:
    """A study here and at a peer, in images.

    Attributes:
        there: None: the peer does not know the study.
    """

    here: int
    there: int | None

    @property
    def complete(self) -> bool:
        return self.there is None or self.here >= self.there


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a peer said of a study when its last image was that of `last_instance_at`."""

    last_instance_at: datetime
    asked_at: datetime
    compared: Compared | None
    why_not: str = ""

    @property
    def has_to_wait(self) -> bool:
        return self.compared is not None and not self.compared.complete


class Completeness:
    """Asks about quiet studies; off the path of settling, which only looks at the answers.

    A peer that does not answer holds up nothing: the study settles, and the audit trail says so.
    """

    def __init__(
        self,
        peer: str,
        open_catalogue: Callable[[], Catalogue],
        *,
        database: Database,
        clock: Clock,
        quiet: timedelta,
        longest: timedelta,
    ) -> None:
        self._peer = peer
        self._open = open_catalogue
        self._database = database
        self._clock = clock
        self._quiet = quiet
        self._longest = longest
        self._answers: dict[str, _Answer] = {}
        self._lock = threading.Lock()

    def ready(self, study: Study) -> Mapping[str, Any] | None:
        """Say what is known of a quiet study, for the audit trail; None: it has to wait."""
        uid, now = study.study_instance_uid, self._clock.now()
        over = now - study.last_instance_at - self._quiet >= self._longest
        with self._lock:
            answer = self._answers.get(uid)
            if answer is not None and answer.last_instance_at != study.last_instance_at:
                answer = None
            if not over and (answer is None or answer.has_to_wait):
                return None
            self._answers.pop(uid, None)
        if answer is None:
            return {"peer": self._peer, "asked": "no answer in time"}
        if answer.compared is None:
            return {"peer": self._peer, "asked": f"not answered: {answer.why_not}"}
        return {"peer": self._peer, "asked": _words(answer.compared)}

    def ask_about_quiet_studies(self) -> None:
        """Ask about each study that waits for an answer, or for images since a quiet time."""
        now = self._clock.now()
        with self._database.read() as session:
            quiet = {
                study.study_instance_uid: study.last_instance_at
                for study in index.quiet_studies(session, now, self._quiet)
            }
        with self._lock:
            due = {uid: at for uid, at in quiet.items() if self._is_due(uid, at, now)}
        if not due:
            return
        catalogue = self._open()
        gone = ""
        try:
            for uid, last_instance_at in due.items():
                compared, why_not = None, gone
                if not gone:
                    try:
                        compared = self._compare(catalogue, uid)
                    except UnreachableError as error:
                        gone = why_not = error.why  # the others are not asked about, either
                    except NodeError as error:
                        why_not = error.why
                    except Exception as error:  # noqa: BLE001 - it must not hold up the others
                        _log.error("completeness_failed", study_uid=uid, **error_facts(error))
                        why_not = type(error).__name__
                self._note(uid, _Answer(last_instance_at, now, compared, why_not))
        finally:
            catalogue.close()

    def _is_due(self, uid: str, last_instance_at: datetime, now: datetime) -> bool:
        answer = self._answers.get(uid)
        if answer is None or answer.last_instance_at != last_instance_at:
            return True
        return answer.has_to_wait and now - answer.asked_at >= self._quiet

    def _note(self, uid: str, answer: _Answer) -> None:
        with self._lock:
            before = self._answers.get(uid)
            self._answers[uid] = answer
        if answer.compared is None:
            _log.warning(
                "completeness_not_known", study_uid=uid, peer=self._peer, why=answer.why_not
            )
        if answer.compared is None or answer.compared.complete:
            return
        if before is None or not before.has_to_wait:
            words = _words(answer.compared)
            with self._database.write() as session:
                audit.record(
                    session,
                    self._clock.now(),
                    "study_waits_for_images",
                    study_uid=uid,
                    peer=self._peer,
                    asked=words,
                )
            _log.info("study_waits_for_images", study_uid=uid, peer=self._peer, asked=words)

    def _compare(self, catalogue: Catalogue, uid: str) -> Compared:
        """Compare the numbers of the study; where they differ, those of its series.

        Our own results are there and not here, and so may reports and presentation states of
        others be: none of them is missing. Of a study that we pulled, only what we asked for
        counts.
        """
        with self._database.read() as session:
            here = retrievals.here(session, uid)
            own = retrievals.own_objects(session, uid)
            asked_for = retrievals.series_asked_for(session, uid)
        study = catalogue.study(uid)
        if study is None:
            return Compared(here.instances, None)
        if study.instances is not None and here.instances >= study.instances:
            return Compared(here.instances, here.instances)
        missing = 0
        for series in catalogue.series(uid):
            series_uid = series.series_instance_uid
            have = here.series.get(series_uid, 0)
            if series.modality in NO_IMAGE or (asked_for and series_uid not in asked_for):
                continue
            if series.instances is None or series.instances > have:
                there = catalogue.instances(uid, series_uid) - own
                with self._database.read() as session:
                    missing += len(there - retrievals.instances_here(session, uid, series_uid))
        return Compared(here.instances, here.instances + missing)


def _words(compared: Compared) -> str:
    if compared.there is None:
        return "the peer does not know the study"
    return f"{compared.here} of {compared.there} images"


def completeness_of(config: NodeConfig, database: Database, clock: Clock) -> Completeness | None:
    """Return what `settle.ask_peer` asks for."""
    settle = config.settle
    if settle.ask_peer is None:
        return None
    return Completeness(
        settle.ask_peer,
        partial(catalogue_of, config, settle.ask_peer),
        database=database,
        clock=clock,
        quiet=timedelta(seconds=settle.quiet_seconds),
        longest=timedelta(seconds=settle.longest_wait_seconds),
    )
