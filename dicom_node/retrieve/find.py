"""C-FIND in the Study Root model (PS3.4 section C.6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, NamedTuple

import structlog
from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

from dicom_node.errors import RetrieveError
from dicom_node.retrieve.attributes import (
    SERIES_KEYS,
    STUDY_KEYS,
    instances_of,
    series_of,
    study_of,
)
from dicom_node.retrieve.calling import FIND, Line, code_of, end, said
from dicom_node.retrieve.found import (
    FoundSeries,
    FoundStudies,
    FoundStudy,
    StudyQuery,
)

_log = structlog.get_logger()

_SUCCESS: Final = 0x0000
_PENDING: Final = (0xFF00, 0xFF01)
_CUT: Final = (0xA700, 0xFE00)
"""Out of resources; and "matching terminated", which we never ask for: there are more matches."""


class _Matches(NamedTuple):
    """What a peer answered; `unreadable`: a match was no data set."""

    answers: list[Dataset]
    cut: bool
    unreadable: bool


class Finder:
    """Asks one peer, over an association that is kept between questions; see found.Archive."""

    # services of a subclass, on the same association
    beside: ClassVar[Sequence[str]] = ()

    def __init__(self, line: Line) -> None:
        self._line = line
        self._kept: Association | None = None

    def studies(self, query: StudyQuery) -> FoundStudies:
        keys = _keys("STUDY", STUDY_KEYS)
        keys.StudyInstanceUID = ""
        keys.StudyDate = f"{query.day:%Y%m%d}"
        keys.ModalitiesInStudy = query.modality
        if query.time_range:
            keys.StudyTime = query.time_range
        matches = self._find(keys)
        found = [study for study in map(study_of, matches.answers) if study is not None]
        if len(found) < len(matches.answers):
            number = len(matches.answers) - len(found)
            _log.warning("matches_without_uid", peer=self._line.name, number=number)
        return FoundStudies(found, matches.cut or matches.unreadable)

    def study(self, study_uid: str) -> FoundStudy | None:
        keys = _keys("STUDY", STUDY_KEYS)
        keys.StudyInstanceUID = study_uid
        found = map(study_of, self._find_all(keys))
        return next((item for item in found if item and item.study_instance_uid == study_uid), None)

    def series(self, study_uid: str) -> list[FoundSeries]:
        keys = _keys("SERIES", SERIES_KEYS)
        keys.StudyInstanceUID = study_uid
        keys.SeriesInstanceUID = ""
        return [item for item in map(series_of, self._find_all(keys)) if item is not None]

    def instances(self, study_uid: str, series_uid: str) -> frozenset[str]:
        keys = _keys("IMAGE", ())
        keys.StudyInstanceUID = study_uid
        keys.SeriesInstanceUID = series_uid
        keys.SOPInstanceUID = ""
        return instances_of(self._find_all(keys))

    def close(self) -> None:
        if self._kept is not None:
            end(self._kept)
            self._kept = None

    def _association(self) -> Association:
        if self._kept is None or not self._kept.is_established:
            self._kept = self._line.open([build_context(uid) for uid in (FIND, *self.beside)])
        return self._kept

    def _find_all(self, keys: Dataset) -> list[Dataset]:
        matches = self._find(keys)
        if matches.unreadable:
            raise RetrieveError(
                f"C-FIND of {self._line.name}",
                f"a match at {keys.QueryRetrieveLevel} level cannot be read",
                "look into the peer's log: what it answers is no data set",
            )
        if matches.cut:
            raise RetrieveError(
                f"C-FIND of {self._line.name}",
                f"it gave only {len(matches.answers)} matches at {keys.QueryRetrieveLevel} level",
                "let it allow more matches for one query",
            )
        return matches.answers

    def _find(self, keys: Dataset) -> _Matches:
        association = self._association()
        self._line.check(association, FIND, "C-FIND")
        answers: list[Dataset] = []
        unreadable = False
        status = Dataset()
        sent = self._line.ask("C-FIND", lambda: association.send_c_find(keys, FIND))
        for status, answer in sent:
            if code_of(status) not in _PENDING:
                continue
            if answer is None:
                unreadable = True
            else:
                answers.append(answer)
        if unreadable:
            _log.warning("match_unreadable", peer=self._line.name, level=keys.QueryRetrieveLevel)
        code = code_of(status)
        if code is None:
            self.close()
            self._line.lost("C-FIND")
        if code != _SUCCESS and code not in _CUT:
            raise RetrieveError(
                f"C-FIND of {self._line.name}", said(status), "look into the peer's log"
            )
        return _Matches(answers, code in _CUT, unreadable)


def _keys(level: str, wanted: Sequence[str]) -> Dataset:
    keys = Dataset()
    keys.QueryRetrieveLevel = level
    for keyword in wanted:
        setattr(keys, keyword, None)
    return keys
