"""The earlier report that a new one replaces: what the store knows and the new report says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The last report of the same pipeline on the same study.

    It is fixed when a job has finished once, so that the job makes the same bytes whenever it is
    run again.

    Attributes:
        documents: (SOP Class UID, SOP Instance UID) of its SR, then of the SR's other forms.
        series_instance_uid: The series of these documents.
        version: Of the pipeline that made it.
        weights_sha256: Of the weights that made it; "" when that is not known.
        more_images: How many images the new job has that the earlier one had not.
        fewer_images: How many images the earlier job had that the new one has not.
    """

    documents: tuple[tuple[str, str], ...]
    series_instance_uid: str
    version: str
    weights_sha256: str = ""
    more_images: int = 0
    fewer_images: int = 0

    @property
    def sop_instance_uid(self) -> str:
        return self.documents[0][1]

    def document_of(self, sop_class_uid: str) -> tuple[str, str]:
        """The document of a SOP class; the SR itself when there is none of that class."""
        return next(
            (item for item in self.documents if item[0] == sop_class_uid), self.documents[0]
        )

    def as_plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def of_plain(cls, data: Mapping[str, Any]) -> Predecessor:
        """From what `as_plain` gave, by way of JSON."""
        documents = tuple((str(kind), str(uid)) for kind, uid in data["documents"])
        return cls(**{**data, "documents": documents})
