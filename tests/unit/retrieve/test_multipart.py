"""Multipart bodies and DICOM files that come in pieces of any size."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.retrieve.multipart import CutOffError, Multipart, boundary_of
from dicom_node.retrieve.part10 import NoDicomError, split_head
from tests.factories import radiograph

BOUNDARY = "b-1"


def body(parts: list[bytes], end: bytes = b"--") -> bytes:
    head = b"Content-Type: application/dicom\r\n\r\n"
    text = b"".join(b"--b-1\r\n" + head + part + b"\r\n" for part in parts)
    return b"preamble\r\n" + text + b"--b-1" + end + b"\r\nepilogue"


def read(data: bytes, size: int) -> list[bytes]:
    stream = BytesIO(data)
    return [
        b"".join(part) for part in Multipart(lambda most: stream.read(min(size, most)), BOUNDARY)
    ]


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([b"\r\n", b"--", b"b-1", b"\r\n--b-", b"x", b"\0"])).map(b"".join),
        max_size=4,
    ),
    st.integers(1, 40),
)
def test_parts_are_read_as_they_are_in_pieces_of_any_size(parts: list[bytes], size: int) -> None:
    whole = [part for part in parts if b"\r\n--b-1" not in b"\r\n" + part]
    assert read(body(whole), size) == whole


def test_a_part_that_is_not_read_is_skipped() -> None:
    stream = BytesIO(body([b"first" * 100, b"second"]))
    taken = []
    for part in Multipart(lambda most: stream.read(min(7, most)), BOUNDARY):
        taken.append(next(part))
    assert len(taken) == 2
    assert b"second".startswith(taken[1])


@pytest.mark.parametrize("end", [0, 12, 40, 60])
def test_a_body_that_breaks_off_is_told(end: int) -> None:
    with pytest.raises(CutOffError):
        read(body([b"some image"])[:end], 5)


@pytest.mark.parametrize(
    ("text", "boundary"),
    [
        ('multipart/related; type="application/dicom"; boundary=abc', "abc"),
        ('Multipart/Related;Boundary="a b"', "a b"),
        ("multipart/related", None),
        ("application/dicom; boundary=abc", None),
        ("", None),
    ],
)
def test_the_boundary_is_found(text: str, boundary: str | None) -> None:
    assert boundary_of(text) == boundary


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 500))
def test_a_file_is_split_after_its_meta_information(size: int) -> None:
    image = radiograph()
    out = BytesIO()
    image.save_as(out, enforce_file_format=True)
    data = out.getvalue()
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    incoming, first = split_head(pieces)
    rest = first + b"".join(pieces)
    assert incoming.sop_instance_uid == image.SOPInstanceUID
    assert incoming.sop_class_uid == image.SOPClassUID
    assert incoming.transfer_syntax == image.file_meta.TransferSyntaxUID
    assert data.endswith(rest)
    assert rest[:2] == b"\x08\x00"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        b"\0" * 128 + b"DICM",
        b"\0" * 128 + b"DICM\x02\0\0\0UL\x04\0\xff\xff\xff\xff" + b"\0" * 100,
        b"\0" * 128 + b"DICM\x02\0\0\0UL\x04\0\x08\0\0\0" + b"\x02\0\x01\0OB\0\0\xff\xff\xff\x7f",
    ],
)
def test_what_is_no_file_is_told(data: bytes) -> None:
    with pytest.raises(NoDicomError):
        split_head(iter([data]))
