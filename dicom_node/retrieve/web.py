"""QIDO-RS and WADO-RS: a DICOMweb server as an archive (PS3.18 sections 10.6 and 10.4)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import structlog
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from dicom_node.errors import RetrieveError, UnreachableError
from dicom_node.retrieve.attributes import (
    SERIES_KEYS,
    STUDY_KEYS,
    instances_of,
    series_of,
    study_of,
)
from dicom_node.retrieve.found import (
    FoundSeries,
    FoundStudies,
    FoundStudy,
    Pulled,
    Storage,
    StudyQuery,
)
from dicom_node.retrieve.http import Web
from dicom_node.retrieve.multipart import CutOffError, Multipart, boundary_of
from dicom_node.retrieve.operations import together
from dicom_node.retrieve.part10 import NoDicomError, split_head
from dicom_node.retrieve.taking import take

_log = structlog.get_logger()

_PAGE: Final = 200
_LONGEST_PAGE: Final = 64 * 1024 * 1024
_JSON: Final = "application/dicom+json"
# whatever transfer syntax the server has it in: nothing is to be transcoded
_FILES: Final = 'multipart/related; type="application/dicom"; transfer-syntax=*'


class WebFinder:
    """A server that is asked by QIDO-RS; see found.Catalogue."""

    def __init__(self, web: Web) -> None:
        self._web = web

    def studies(self, query: StudyQuery) -> FoundStudies:
        keys = {"StudyDate": f"{query.day:%Y%m%d}", "ModalitiesInStudy": query.modality}
        if query.time_range:
            keys["StudyTime"] = query.time_range
        found = self._search("/studies", ("StudyInstanceUID", *STUDY_KEYS), keys)
        return FoundStudies([study for study in map(study_of, found) if study is not None])

    def study(self, study_uid: str) -> FoundStudy | None:
        keys = {"StudyInstanceUID": study_uid}
        found = map(study_of, self._search("/studies", ("StudyInstanceUID", *STUDY_KEYS), keys))
        return next((item for item in found if item and item.study_instance_uid == study_uid), None)

    def series(self, study_uid: str) -> list[FoundSeries]:
        path = f"/studies/{study_uid}/series"
        found = self._search(path, ("SeriesInstanceUID", *SERIES_KEYS), {})
        return [item for item in map(series_of, found) if item is not None]

    def instances(self, study_uid: str, series_uid: str) -> frozenset[str]:
        path = f"/studies/{study_uid}/series/{series_uid}/instances"
        return instances_of(self._search(path, ("SOPInstanceUID",), {}))

    def close(self) -> None:
        """Nothing is kept open between requests."""

    def _search(self, path: str, keywords: Sequence[str], keys: dict[str, str]) -> list[Dataset]:
        """Ask page by page until one brings nothing new."""
        found: dict[str, Dataset] = {}
        offset = 0
        while True:
            fields = [("includefield", keyword) for keyword in keywords[1:]]
            pages = [("limit", str(_PAGE)), ("offset", str(offset))]
            query = urlencode([*keys.items(), *fields, *pages])
            matches = self._page(f"{path}?{query}")
            read = [_dataset(match, keywords) for match in matches]
            new = {str(item.get(keywords[0], "")): item for item in read}
            if not new.keys() - found.keys():
                return list(found.values())
            found.update(new)
            offset += len(matches)

    def _page(self, path: str) -> list[Any]:
        with self._web.get(path, _JSON) as response:
            if response.status == 204:
                return []
            text = response.read(_LONGEST_PAGE)
        try:
            page = json.loads(text)
        except ValueError:
            page = None
        if not isinstance(page, list):
            raise RetrieveError(
                f"QIDO-RS of {self._web.name}",
                "the answer is no list in DICOM JSON",
                "look at the peer's `url`: it has to end where `/studies` follows",
            )
        return page


class WebArchive(WebFinder):
    """A server that sends by WADO-RS."""

    def __init__(self, web: Web, storage: Storage) -> None:
        super().__init__(web)
        self._storage = storage

    def pull(self, study_uid: str, series: Iterable[FoundSeries]) -> Pulled:
        return together(self._pull(study_uid, item.series_instance_uid) for item in series)

    def _pull(self, study_uid: str, series_uid: str) -> Pulled:
        try:
            return self._get(study_uid, series_uid)
        except UnreachableError:
            raise
        except RetrieveError as error:
            # as a C-MOVE that fails: it may be of this series alone
            return Pulled(0, 0, f"{error.what}: {error.why}", False)

    def _get(self, study_uid: str, series_uid: str) -> Pulled:
        completed = failed = 0
        with self._web.get(f"/studies/{study_uid}/series/{series_uid}", _FILES) as response:
            boundary = boundary_of(response.headers.get("Content-Type", ""))
            if boundary is None:
                raise RetrieveError(
                    f"WADO-RS of {self._web.name}",
                    "the answer is no multipart body",
                    "see whether the server sends application/dicom by WADO-RS",
                )
            try:
                for part in Multipart(response.read1, boundary):
                    if self._take(part):
                        completed += 1
                    else:
                        failed += 1
            except CutOffError:
                raise UnreachableError(
                    f"WADO-RS of {self._web.name}", "the answer broke off", "run it again"
                ) from None
        text = f"{completed} of {completed + failed} instances taken"
        return Pulled(completed, failed, text, not failed)

    def _take(self, pieces: Iterator[bytes]) -> bool:
        try:
            incoming, first = split_head(pieces)
        except NoDicomError:
            _log.warning("pulled_part_is_no_dicom_file", peer=self._web.name)
            return False
        data = itertools.chain([first], pieces)
        return take(self._storage, incoming, data, self._web.name) == 0


def _dataset(match: object, keywords: Sequence[str]) -> Dataset:
    """Return what we asked for of a match in DICOM JSON (PS3.18 annex F); the rest is not read."""
    dataset = Dataset()
    if not isinstance(match, dict):
        return dataset
    for keyword in keywords:
        tag = f"{tag_for_keyword(keyword):08X}"
        element = match.get(tag)
        values = element.get("Value") if isinstance(element, dict) else None
        if isinstance(values, list):
            texts = [str(value) for value in values if isinstance(value, str | int | float)]
            dataset.add_new(tag, _VR.get(keyword, "LO"), texts)
    return dataset


_VR: Final = {"StudyInstanceUID": "UI", "SeriesInstanceUID": "UI", "SOPInstanceUID": "UI"}
