"""An archive of the tests: what it has is a dict, and it can be told to fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date

from dicom_node.model.instances import AttributeValue
from dicom_node.retrieve.found import (
    FoundSeries,
    FoundStudies,
    FoundStudy,
    Pulled,
    StudyQuery,
)


@dataclass
class FakeSeries:
    """A series; `instances` are SOP Instance UIDs."""

    modality: str
    instances: list[str]
    attributes: dict[str, AttributeValue] = field(default_factory=dict)


@dataclass
class FakeArchive:
    """Studies by UID, each a dict of series by UID.

    Attributes:
        counts: It says how many instances there are.
        arrive: What is done with the UIDs of an instance that is pulled: study, series, instance.
        answers: Consumed by `pull` one after another; an exception is raised.
        stays_away: After an exception it answers nothing any more.
    """

    has: dict[str, dict[str, FakeSeries]]
    day: date = date(2026, 10, 1)
    counts: bool = True
    arrive: Callable[[str, str, str], None] = lambda study, series, sop: None
    answers: list[Pulled | Exception | None] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    pulled: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    closed: int = 0
    down: Exception | None = None
    stays_away: bool = False

    def studies(self, query: StudyQuery) -> FoundStudies:
        self._ask("studies")
        found = [
            FoundStudy(uid, self.day)
            for uid, series in self.has.items()
            if query.day == self.day and any(s.modality == query.modality for s in series.values())
        ]
        return FoundStudies(found)

    def study(self, study_uid: str) -> FoundStudy | None:
        self._ask("study")
        if study_uid not in self.has:
            return None
        number = sum(len(item.instances) for item in self.has[study_uid].values())
        return FoundStudy(study_uid, self.day, instances=number if self.counts else None)

    def series(self, study_uid: str) -> list[FoundSeries]:
        self._ask("series")
        return [
            FoundSeries(
                uid, item.modality, len(item.instances) if self.counts else None, item.attributes
            )
            for uid, item in self.has[study_uid].items()
        ]

    def instances(self, study_uid: str, series_uid: str) -> frozenset[str]:
        self._ask("instances")
        return frozenset(self.has[study_uid][series_uid].instances)

    def pull(self, study_uid: str, series: Iterable[FoundSeries]) -> Pulled:
        self._ask("pull")
        wanted = tuple(item.series_instance_uid for item in series)
        self.pulled.append((study_uid, wanted))
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            self.down = answer if self.stays_away else None
            raise answer
        if answer is not None:
            return answer
        sops = [(uid, sop) for uid in wanted for sop in self.has[study_uid][uid].instances]
        for series_uid, sop in sops:
            self.arrive(study_uid, series_uid, sop)
        return Pulled(len(sops), 0, "status 0x0000 (Success)", True)

    def close(self) -> None:
        self.closed += 1

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.down is not None:
            raise self.down
