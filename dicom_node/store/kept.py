"""Which file is meant, who holds it, and what its bytes must be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dicom_node.store.tables import Instance, Report


class KeptKind(StrEnum):
    """What was received, and what was made of it."""

    INSTANCE = "instances"
    REPORT = "reports"


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file as the index knows it.

    Attributes:
        id: Of its row.
        path: Relative to the folder of its kind.
        sha256: Of an instance its data set's, of a report the whole file's.
        host: Who holds it; None: it is in the data folder that all share.
    """

    kind: KeptKind
    id: int
    path: str
    sha256: str
    host: str | None

    @property
    def name(self) -> str:
        """What it is called in messages: never by its UIDs."""
        return f"{'image' if self.kind is KeptKind.INSTANCE else 'report'} {self.id}"


def kept_instance(row: Instance) -> KeptFile:
    """Return the file of an instance."""
    return KeptFile(KeptKind.INSTANCE, row.id, row.path, row.sha256, row.host)


def kept_report(row: Report, form: Mapping[str, Any] | None = None) -> KeptFile:
    """Return the file of a report.

    Args:
        form: The alternative of it that is meant; None: the report itself.
    """
    path, sha256 = (row.path, row.sha256) if form is None else (form["path"], form["sha256"])
    return KeptFile(KeptKind.REPORT, row.id, path, sha256, row.host)
