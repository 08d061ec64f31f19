"""What a peer has, as it says itself; and how it is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final, Protocol

from dicom_node.model.instances import AttributeValue

DAY_BEGINS: Final = "000000"
DAY_ENDS: Final = "235959"


@dataclass(frozen=True, slots=True)
class StudyQuery:
    """Which studies are wanted of a peer: those of one day, or a part of it.

    Attributes:
        modality: Modalities in Study (0008,0061) holds it.
        begin: First Study Time (HHMMSS).
        end: Last Study Time, included.
    """

    day: date
    modality: str
    begin: str = DAY_BEGINS
    end: str = DAY_ENDS

    @property
    def time_range(self) -> str:
        """Study Time for range matching (PS3.4 section C.2.2.2.5); "" for the whole day."""
        begin = "" if self.begin == DAY_BEGINS else self.begin
        end = "" if self.end == DAY_ENDS else self.end
        return f"{begin}-{end}" if begin or end else ""


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """A study that a peer has; what the peer did not say is None or empty.

    Attributes:
        day: Study Date.
        modalities: Modalities in Study.
        instances: Number of Study Related Instances (0020,1208).
    """

    study_instance_uid: str
    day: date | None = None
    modalities: frozenset[str] = frozenset()
    instances: int | None = None


@dataclass(frozen=True, slots=True)
class FoundSeries:
    """A series that a peer has; what the peer did not say is None or empty.

    Attributes:
        instances: Number of Series Related Instances (0020,1209).
        attributes: What it says of the body part, by keyword (Body Part Examined, descriptions).
    """

    series_instance_uid: str
    modality: str = ""
    instances: int | None = None
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FoundStudies:
    """A peer's answer to one question.

    Attributes:
        cut: The peer said that it did not give all that match.
    """

    studies: Sequence[FoundStudy]
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Pulled:
    """How the peer ended a retrieval.

    Attributes:
        completed: Instances that arrived; None: the peer did not say.
        failed: Instances that the peer could not send, or that were not taken.
        text: The status, and what the peer said.
        ok: The peer said that all of it was sent.
    """

    completed: int | None
    failed: int
    text: str
    ok: bool


class Catalogue(Protocol):
    """A peer that can be asked what it has.

    Every method raises RetrieveError when the peer's answer is no; UnreachableError when none came.
    """

    def studies(self, query: StudyQuery) -> FoundStudies: ...

    def study(self, study_uid: str) -> FoundStudy | None:
        """Return one study, or None when the peer does not have it."""
        ...

    def series(self, study_uid: str) -> list[FoundSeries]: ...

    def instances(self, study_uid: str, series_uid: str) -> frozenset[str]:
        """Return the SOP Instance UIDs of a series."""
        ...

    def close(self) -> None: ...


class Archive(Catalogue, Protocol):
    """A peer that gives what it has, too."""

    def pull(self, study_uid: str, series: Iterable[FoundSeries]) -> Pulled:
        """Have these series sent to us; returns when the peer has ended."""
        ...


class Verdict(Protocol):
    """Whether an instance is safe (receive.storing.Answer)."""

    @property
    def status(self) -> int:
        """C-STORE status; 0: it is."""
        ...

    @property
    def reason(self) -> str: ...


class Receipt(Protocol):
    """One instance on its way to disk (receive.storing.Receipt)."""

    def write(self, data: bytes | memoryview) -> None: ...

    def finish(self) -> Verdict: ...

    def abandon(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Incoming:
    """An instance whose data set follows."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str


class Storage(Protocol):
    """Where pulled instances go: the spool, in the same way as received ones."""

    def begin(self, incoming: Incoming) -> Receipt: ...
