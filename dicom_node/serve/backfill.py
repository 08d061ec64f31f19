"""Studies of the past: found at a peer, looked for here, pulled when they are not.

What comes goes the way of all images: spool, index, settling, routes. Each study is noted before
the peer is asked for it and when the peer has ended, so a backfill that was stopped goes on where
it was when it is started again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum
from functools import partial
from typing import Final, TypeVar

import structlog

from dicom_node.clock import Clock
from dicom_node.errors import RetrieveError, UnreachableError
from dicom_node.model.states import RetrievalState
from dicom_node.retrieve import Archive, FoundSeries, FoundStudy, studies_of_day
from dicom_node.serve.pace import Pace
from dicom_node.serve.wanted import Wanted
from dicom_node.store import retrievals
from dicom_node.store.database import Database
from dicom_node.store.retrievals import Analysed

_log = structlog.get_logger()
_T = TypeVar("_T")

_ON_ITS_WAY: Final = timedelta(hours=1)
"""What was pulled so recently may not be indexed yet, and is not asked for again."""
_ATTEMPTS: Final = 5
_FAILURES_IN_A_ROW: Final = 5


class Outcome(StrEnum):
    """What became of a study that the peer has."""

    NOT_WANTED = "not wanted"
    HERE = "already here"
    ROUTED_AGAIN = "routed again"
    PULLED = "pulled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Step:
    """One study done; `text` says why it failed or is not wanted."""

    study_uid: str
    outcome: Outcome
    text: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing is done until something has changed."""

    reason: str


@dataclass(frozen=True, slots=True)
class DayFound:
    """A day was asked for.

    Attributes:
        new: Studies that were not found before.
        cut: The peer did not tell all of them.
    """

    day: date
    new: Sequence[FoundStudy]
    cut: bool


@dataclass(frozen=True, slots=True)
class _Look:
    """What is to be done about a study; `missing` is to be pulled."""

    outcome: Outcome
    text: str = ""
    missing: tuple[FoundSeries, ...] = ()


class Backfill:
    """Finds, looks and pulls, one study after another.

    Args:
        pipelines: Version and SHA-256 of the weights, by name: what a study is to be analysed by.
        wait: Waits for seconds; True when it was told to stop.
        by: Who has it done, for the audit trail.
        first_wait: Seconds before a peer that does not answer is asked again; then twice as long.
        route_again: Let routing decide again on all that is here, as after a new route.
    """

    def __init__(
        self,
        name: str,
        archive: Archive,
        wanted: Wanted,
        *,
        database: Database,
        pipelines: Mapping[str, tuple[str, str]],
        clock: Clock,
        wait: Callable[[float], bool],
        first_wait: float,
        by: str,
        route_again: bool = False,
    ) -> None:
        self._name = name
        self._archive = archive
        self._wanted = wanted
        self._database = database
        self._pipelines = pipelines
        self._clock = clock
        self._wait = wait
        self._first_wait = first_wait
        self._by = by
        self._route_again = route_again

    def search(self) -> Iterator[DayFound]:
        """Ask for each day and modality.

        Raises:
            RetrieveError: The peer does not answer, or says no.
        """
        known: set[str] = set()
        for day in self._wanted.days:
            found: dict[str, FoundStudy] = {}
            cut = False
            for modality in self._wanted.modalities:
                answer = studies_of_day(self._archive.studies, day, modality)
                cut |= answer.cut
                found.update((item.study_instance_uid, item) for item in answer.studies)
            new = [item for uid, item in found.items() if uid not in known]
            known.update(found)
            yield DayFound(day, new, cut)

    def look(self, studies: Sequence[FoundStudy]) -> Iterator[Step]:
        """Tell what `run` would do now; pulls nothing."""
        for study in studies:
            look = self._look(study.study_instance_uid)
            yield Step(study.study_instance_uid, look.outcome, look.text)

    def run(self, studies: Sequence[FoundStudy], pace: Pace) -> Iterator[Step | Waiting]:
        """Pull what is not here.

        Raises:
            RetrieveError: The peer is gone, or every study fails: going on is no use.
        """
        in_a_row = 0
        for study in studies:
            uid = study.study_instance_uid
            if self._wait(0):
                return
            look = self._patiently(partial(self._look, uid))
            if look.outcome is Outcome.PULLED:
                for reason in pace.waits(self._wait):
                    self._archive.close()  # the peer would end an association that rests
                    yield Waiting(reason)
                if self._wait(0):
                    return
                step = self._pull(uid, look.missing)
            else:
                if look.outcome is Outcome.ROUTED_AGAIN:
                    with self._database.write() as session:
                        retrievals.route_again(session, uid, self._clock.now(), self._by)
                step = Step(uid, look.outcome, look.text)
            yield step
            if step.outcome is Outcome.FAILED:
                in_a_row += 1
                if in_a_row == _FAILURES_IN_A_ROW:
                    raise RetrieveError(
                        f"backfill from {self._name}",
                        f"{in_a_row} studies failed one after another: {step.text}",
                        "mend the cause and run the command again; it goes on where it was",
                    )
            elif step.outcome is Outcome.PULLED:
                in_a_row = 0

    def _look(self, uid: str) -> _Look:
        try:
            every = self._archive.series(uid)
            reasons = [self._wanted.why_not(item) for item in every]
            wanted = [item for item, why in zip(every, reasons, strict=True) if not why]
            if not wanted:
                return _Look(Outcome.NOT_WANTED, max(reasons, default="it has no series"))
            numbered = [self._numbered(uid, item) for item in wanted]
        except UnreachableError:
            raise
        except RetrieveError as error:
            return _Look(Outcome.FAILED, f"{error.what}: {error.why}")
        with self._database.read() as session:
            analysed = retrievals.analysed(session, uid, self._pipelines)
            here = retrievals.here(session, uid)
            asked = retrievals.find(session, uid, self._name)
        again = analysed is Analysed.OUTDATED or (
            self._route_again and analysed is Analysed.CURRENT
        )
        if again and here.purged:
            return _Look(Outcome.PULLED, missing=tuple(numbered))
        coming: Mapping[str, int | None] = {}
        if asked is not None and asked.state == RetrievalState.PULLED and asked.ended_at:
            # a clock that was put back may have it in the future
            coming = asked.series if abs(self._clock.now() - asked.ended_at) < _ON_ITS_WAY else {}
        # a late image reopened it after the others were purged: it waits for all of them
        whole = here.purged and analysed is Analysed.NOT_YET
        missing = tuple(
            item
            for item in numbered
            if (whole or here.series.get(item.series_instance_uid, 0) < (item.instances or 0))
            and coming.get(item.series_instance_uid) != item.instances
        )
        if missing:
            return _Look(Outcome.PULLED, missing=missing)
        return _Look(Outcome.ROUTED_AGAIN if again else Outcome.HERE)

    def _numbered(self, uid: str, series: FoundSeries) -> FoundSeries:
        """Return a series with its number of instances, for peers that do not count them."""
        if series.instances is not None:
            return series
        return replace(
            series, instances=len(self._archive.instances(uid, series.series_instance_uid))
        )

    def _pull(self, uid: str, missing: Sequence[FoundSeries]) -> Step:
        asked = {item.series_instance_uid: item.instances for item in missing}
        with self._database.write() as session:
            retrievals.begin(session, uid, self._name, asked, self._clock.now(), self._by)
        try:
            pulled = self._patiently(partial(self._archive.pull, uid, missing))
        except RetrieveError as error:
            text = f"{error.what}: {error.why}"
            self._end(uid, text, None, failed=True)
            if not isinstance(error, UnreachableError) or not self._answers_about(uid):
                raise
            # there are studies that a peer breaks off at each time: the others come all the same
            return Step(uid, Outcome.FAILED, text)
        text = pulled.text
        wanted = sum(number or 0 for number in asked.values())
        short = pulled.completed is not None and pulled.completed < wanted
        if short:
            text = f"{pulled.completed} of {wanted} images came: {text}"
        failed = short or not pulled.ok
        self._end(uid, text, pulled.completed, failed=failed)
        return Step(uid, Outcome.FAILED if failed else Outcome.PULLED, text if failed else "")

    def _answers_about(self, uid: str) -> bool:
        try:
            self._archive.series(uid)
        except RetrieveError:
            return False
        return True

    def _end(self, uid: str, answer: str, instances: int | None, *, failed: bool) -> None:
        with self._database.write() as session:
            retrievals.end(
                session,
                uid,
                self._name,
                answer,
                self._clock.now(),
                instances=instances,
                failed=failed,
            )
        if failed:
            _log.warning("study_not_pulled", study_uid=uid, answer=answer)

    def _patiently(self, work: Callable[[], _T]) -> _T:
        """Ask a peer that does not answer again, for a few times."""
        for attempt in range(_ATTEMPTS - 1):
            try:
                return work()
            except UnreachableError as error:
                _log.warning("peer_does_not_answer", peer=self._name, why=error.why)
                if self._wait(self._first_wait * 2**attempt):
                    raise
        return work()
