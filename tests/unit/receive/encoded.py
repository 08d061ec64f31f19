"""Encoded data sets, commands and PDUs for tests."""

from __future__ import annotations

import struct

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
SOP = "1.2.3.4.5"


def data_set(sop: str = SOP, pixels: bytes = b"\x01\x02" * 50, **attributes: object) -> bytes:
    """An encoded CT in explicit VR little endian; an attribute of None is left out."""
    dataset = Dataset()
    dataset.SOPClassUID = CT
    dataset.SOPInstanceUID = sop
    dataset.PatientName = "Secret^Name"
    dataset.StudyInstanceUID = "1.2.3"
    dataset.SeriesInstanceUID = "1.2.3.4"
    dataset.add_new(0x7FE00010, "OW", pixels)
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, False
    write_dataset(out, dataset)
    return out.getvalue()


def command(
    field: int = 1, sop_class: str = CT, sop: str = SOP, *, has_data_set: bool = True
) -> bytes:
    """An encoded command set."""

    def element(number: int, value: bytes) -> bytes:
        return struct.pack("<HHI", 0, number, len(value)) + value

    def uid(text: str) -> bytes:
        return text.encode() + b"\0" * (len(text) % 2)

    return (
        element(0x0002, uid(sop_class))
        + element(0x0100, struct.pack("<H", field))
        + element(0x0110, struct.pack("<H", 7))
        + element(0x0700, struct.pack("<H", 0))
        + element(0x0800, struct.pack("<H", 1 if has_data_set else 0x0101))
        + element(0x1000, uid(sop))
    )


def pdv(context_id: int, control: int, data: bytes) -> bytes:
    return struct.pack(">IBB", len(data) + 2, context_id, control) + data


def pdu(*pdvs: bytes) -> bytes:
    """A P-DATA-TF PDU."""
    body = b"".join(pdvs)
    return struct.pack(">BxI", 4, len(body)) + body
