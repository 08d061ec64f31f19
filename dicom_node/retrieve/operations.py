"""How C-MOVE and C-GET end: the sub-operations, and what the peer says (PS3.4 section C.4.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.errors import RetrieveError
from dicom_node.retrieve.calling import code_of, said
from dicom_node.retrieve.found import Pulled

_SUCCESS: Final = 0x0000
_UNKNOWN_DESTINATION: Final = 0xA801


def request(study_uid: str, series_uid: str) -> Dataset:
    """Return the identifier that asks for one series."""
    keys = Dataset()
    keys.QueryRetrieveLevel = "SERIES"
    keys.StudyInstanceUID = study_uid
    keys.SeriesInstanceUID = series_uid
    return keys


def ending(answers: Iterator[tuple[Dataset, Dataset | None]]) -> Pulled | None:
    """Read answers to the last one; None when the last one did not come.

    Raises:
        RetrieveError: The peer does not know where to send to.
    """
    status = next(reversed([status for status, _ in answers]), Dataset())
    code = code_of(status)
    if code is None:
        return None
    if code == _UNKNOWN_DESTINATION:
        raise RetrieveError(
            "C-MOVE",
            f"the peer does not know where to send: {said(status)}",
            "add our AE title, with our host and port, to the peer's list of move destinations",
        )
    completed = status.get("NumberOfCompletedSuboperations")
    warned = int(status.get("NumberOfWarningSuboperations") or 0)
    failed = int(status.get("NumberOfFailedSuboperations") or 0)
    number = None if completed is None else int(completed) + warned
    return Pulled(number, failed, said(status), code == _SUCCESS and not failed)


def together(parts: Iterable[Pulled]) -> Pulled:
    """Put the endings of several series into one; the text is that of the first that failed."""
    every = list(parts)
    numbers = [part.completed for part in every if part.completed is not None]
    first = next((part for part in every if not part.ok), every[-1] if every else None)
    return Pulled(
        sum(numbers) if len(numbers) == len(every) else None,
        sum(part.failed for part in every),
        first.text if first else "nothing was asked for",
        bool(every) and all(part.ok for part in every),
    )
