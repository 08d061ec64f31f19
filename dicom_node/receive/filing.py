"""Whether a received data set can be filed: its header is looked at, its pixels never."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dicom_node.errors import RefusedInstanceError
from dicom_node.model.identifiers import is_valid_uid
from dicom_node.receive.elements import Bytes, Encoding, MalformedError, walk

OUT_OF_RESOURCES: Final = 0xA700
MISMATCH: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000
SOP_CLASS_NOT_SUPPORTED: Final = 0x0122

_SOP_CLASS: Final = 0x00080016
_SOP_INSTANCE: Final = 0x00080018
_STUDY: Final = 0x0020000D
_SERIES: Final = 0x0020000E
_WANTED: Final = frozenset({_SOP_CLASS, _SOP_INSTANCE, _STUDY, _SERIES})
_NAMES: Final = {
    _STUDY: "StudyInstanceUID",
    _SERIES: "SeriesInstanceUID",
    _SOP_INSTANCE: "SOPInstanceUID",
    _SOP_CLASS: "SOPClassUID",
}


@dataclass(frozen=True, slots=True)
class Filed:
    """The UIDs that name a data set's place."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


def inspect(
    data: Bytes,
    *,
    start: int,
    transfer_syntax: str,
    sop_class_uid: str,
    sop_instance_uid: str,
) -> Filed:
    """Check that a data set has the UIDs that file it, is what the C-STORE request said, is whole.

    Args:
        data: Something that ends with the data set.
        start: Where the data set begins in it.
        sop_class_uid: Affected SOP Class UID of the request.
        sop_instance_uid: Affected SOP Instance UID of the request.

    Raises:
        RefusedInstanceError: With the status that PS3.4 Table B.2-1 has for it.
    """
    try:
        found = walk(data, Encoding.of(transfer_syntax), _WANTED, start)
    except MalformedError as error:
        raise _cannot_understand(str(error)) from None
    uids = {tag: _uid(found, tag) for tag in _NAMES}
    if uids[_SOP_CLASS] != sop_class_uid:
        raise _mismatch("SOP Class UID", "another SOP class")
    if uids[_SOP_INSTANCE] != sop_instance_uid:
        raise _mismatch("SOP Instance UID", "another SOP Instance UID")
    return Filed(uids[_STUDY], uids[_SERIES], uids[_SOP_INSTANCE])


def _uid(found: dict[int, bytes], tag: int) -> str:
    # padded with a null (PS3.5 section 9.1), by some senders with a space
    value = found.get(tag, b"").rstrip(b"\0 ").decode("latin-1")
    if not value:
        raise _cannot_understand(f"{_NAMES[tag]} is missing or empty")
    if not is_valid_uid(value):
        raise _cannot_understand(f"{_NAMES[tag]} is not a valid UID")
    return value


def _mismatch(what: str, why: str) -> RefusedInstanceError:
    return RefusedInstanceError(
        MISMATCH,
        what,
        f"the data set has {why} than the C-STORE request",
        "mend the sender: both must be the same (PS3.7 section 9.1.1.1)",
    )


def _cannot_understand(why: str) -> RefusedInstanceError:
    return RefusedInstanceError(
        CANNOT_UNDERSTAND, "data set", why, "mend the sender and send it again"
    )
