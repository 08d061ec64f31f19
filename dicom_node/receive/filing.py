"""Whether a received data set can be filed: its header is looked at, its pixels never."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import Final, Literal

from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from dicom_node.errors import RefusedInstanceError
from dicom_node.model.identifiers import is_valid_uid

OUT_OF_RESOURCES: Final = 0xA700
MISMATCH: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000

_PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_UNDEFINED: Final = 0xFFFFFFFF
_END_OF_SEQUENCE: Final = b"\xfe\xff\xdd\xe0"


@dataclass(frozen=True, slots=True)
class Filed:
    """The UIDs that name a data set's place."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


def inspect(
    part10: io.RawIOBase,
    size: int,
    *,
    transfer_syntax: UID,
    sop_class_uid: str,
    sop_instance_uid: str,
) -> Filed:
    """Check that a data set has the UIDs that file it, is what the C-STORE request said, is whole.

    Args:
        part10: Preamble, File Meta Information and data set, from its start.
        size: Length of `part10` in bytes.
        sop_class_uid: Affected SOP Class UID of the request.
        sop_instance_uid: Affected SOP Instance UID of the request.

    Raises:
        RefusedInstanceError: With the status that PS3.4 Table B.2-1 has for it.
    """
    try:
        header = dcmread(part10, stop_before_pixels=True)
        _decode(header)
    except zlib.error:
        raise _cannot_understand("it is cut off or damaged", "the deflated bytes end") from None
    except Exception as error:  # noqa: BLE001 - hostile bytes raise anything; the sender is told
        raise _cannot_understand("it cannot be read", type(error).__name__) from None
    filed = Filed(
        _uid(header, "StudyInstanceUID"),
        _uid(header, "SeriesInstanceUID"),
        _uid(header, "SOPInstanceUID"),
    )
    if _uid(header, "SOPClassUID") != sop_class_uid:
        raise RefusedInstanceError(
            MISMATCH,
            "SOP Class UID",
            "the data set has another SOP class than the C-STORE request",
            "mend the sender: both must be the same (PS3.7 section 9.1.1.1)",
        )
    if filed.sop_instance_uid != sop_instance_uid:
        raise RefusedInstanceError(
            MISMATCH,
            "SOP Instance UID",
            "the data set has another SOP Instance UID than the C-STORE request",
            "mend the sender: both must be the same (PS3.7 section 9.1.1.1)",
        )
    if transfer_syntax != DeflatedExplicitVRLittleEndian:
        _check_header_whole(header, size)
        _check_pixels_whole(part10, size, transfer_syntax)
    return filed


def _decode(header: Dataset) -> None:
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        header.get(keyword)


def _uid(header: Dataset, keyword: str) -> str:
    value = str(header.get(keyword) or "")
    if not value:
        raise _cannot_understand(f"{keyword} is missing or empty", "the study cannot be filed")
    if not is_valid_uid(value):
        raise _cannot_understand(f"{keyword} is not a valid UID", "see PS3.5 section 9.1")
    return value


def _check_header_whole(header: Dataset, size: int) -> None:
    """Check that the last element that was read ends before the data set does.

    pydicom keeps what is left of an element that the end of the stream cuts short.
    """
    last = max(header.keys(), default=None)
    element = None if last is None else header.get_item(last)
    if (
        isinstance(element, RawDataElement)
        and element.length != _UNDEFINED
        and element.value_tell + element.length > size
    ):
        raise _cannot_understand("it is cut off", "its last element has fewer bytes than said")


def _check_pixels_whole(part10: io.RawIOBase, size: int, syntax: UID) -> None:
    """Check that the pixels, which are not read, are there to their end.

    pydicom stops at the start of the pixel element and leaves the stream there.
    """
    start = part10.tell()
    if start == size:
        return
    if size - start < 8:
        raise _cannot_understand("it is cut off", "an element's head is incomplete")
    order: Literal["little", "big"] = "little" if syntax.is_little_endian else "big"
    head = part10.read(12) or b""
    tag = int.from_bytes(head[0:2], order) << 16 | int.from_bytes(head[2:4], order)
    if tag not in _PIXELS:
        return
    explicit = not syntax.is_implicit_VR
    long_form = explicit and head[4:6] in (b"OB", b"OW", b"OF", b"OD", b"OV", b"UN")
    length = int.from_bytes(head[8:12] if long_form else head[4:8], order)
    value = start + (12 if long_form else 8)
    if length == _UNDEFINED:
        part10.seek(max(value, size - 1024))
        if _END_OF_SEQUENCE not in (part10.read() or b""):
            raise _cannot_understand("it is cut off", "the encapsulated pixels have no end")
    elif value + length > size:
        raise _cannot_understand("it is cut off", "the pixels have fewer bytes than their length")


def _cannot_understand(what: str, why: str) -> RefusedInstanceError:
    return RefusedInstanceError(
        CANNOT_UNDERSTAND, "data set", f"{what}: {why}", "mend the sender and send it again"
    )
