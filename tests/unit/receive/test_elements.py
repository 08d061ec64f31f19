"""Walking encoded data sets: finds what pydicom finds, and knows when something is missing."""

from __future__ import annotations

import contextlib
import struct
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from dicom_node.receive.elements import Encoding, MalformedError, walk

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG = "1.2.840.10008.1.2.4.70"
STUDY, SERIES, PIXELS = 0x0020000D, 0x0020000E, 0x7FE00010
WANTED = {STUDY, SERIES}

texts = st.text("ABC 123", min_size=0, max_size=20)


@st.composite
def data_sets(draw: st.DrawFn, depth: int = 2) -> Dataset:
    dataset = Dataset()
    dataset.PatientComments = draw(texts)
    dataset.StudyInstanceUID = f"1.2.{draw(st.integers(0, 10**30))}"
    if draw(st.booleans()):
        dataset.SeriesInstanceUID = "1.2.3"
    if draw(st.booleans()):
        dataset.add_new(0x00091010, "UN", draw(st.binary(max_size=20)) * 2)
    if depth and draw(st.booleans()):
        items = draw(st.lists(data_sets(depth=depth - 1), max_size=3))
        dataset.ReferencedSeriesSequence = Sequence(items)
        dataset["ReferencedSeriesSequence"].is_undefined_length = draw(st.booleans())
        for item in items:
            item.is_undefined_length_sequence_item = draw(st.booleans())
    if draw(st.booleans()):
        dataset.add_new(PIXELS, "OW", draw(st.binary(max_size=50)) * 2)
    return dataset


def encode(dataset: Dataset, syntax: str) -> bytes:
    out = DicomBytesIO()
    out.is_little_endian = syntax != BIG_ENDIAN
    out.is_implicit_VR = syntax == IMPLICIT
    write_dataset(out, dataset)
    body = out.getvalue()
    if syntax == DEFLATED:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return packer.compress(body) + packer.flush()
    return body


@given(data_sets(), st.sampled_from([EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED]))
@settings(max_examples=150, deadline=None)
def test_the_top_level_values_are_those_that_were_written(dataset: Dataset, syntax: str) -> None:
    found = walk(encode(dataset, syntax), Encoding.of(syntax), WANTED)
    expected = {tag: str(dataset[tag].value).encode() for tag in WANTED if tag in dataset}
    assert {tag: value.rstrip(b"\0") for tag, value in found.items()} == expected


@given(data_sets(), st.sampled_from([EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED]), st.data())
@settings(max_examples=150, deadline=None)
def test_a_data_set_cut_anywhere_within_an_element_is_found_out(
    dataset: Dataset, syntax: str, data: st.DataObject
) -> None:
    dataset.add_new(PIXELS, "OW", b"\x01\x02" * 10)
    body = encode(dataset, syntax)
    lost = data.draw(st.integers(1, 19))  # within the last value, which is not all zeros
    with pytest.raises(MalformedError):
        walk(body[:-lost], Encoding.of(syntax), WANTED)


@given(st.binary(max_size=200), st.sampled_from([EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED]))
@example(b"", EXPLICIT)
@example(b"\0" * 8, EXPLICIT)
@settings(max_examples=500, deadline=None)
def test_any_bytes_end_in_values_or_in_malformed(body: bytes, syntax: str) -> None:
    with contextlib.suppress(MalformedError):
        walk(body, Encoding.of(syntax), WANTED)


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    size = len(value) if length is None else length
    long_form = vr in (b"OB", b"OW", b"SQ", b"UN")
    return head + (struct.pack("<xxI", size) if long_form else struct.pack("<H", size)) + value


def item(value: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value


SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
UNDEFINED = 0xFFFFFFFF
UID = element(STUDY, b"UI", b"1.2\0")


def test_encapsulated_pixels_are_walked_to_their_end() -> None:
    pixels = element(PIXELS, b"OB", item(b"") + item(b"frame!") + SEQUENCE_END, UNDEFINED)
    assert walk(UID + pixels, Encoding.of(JPEG), WANTED) == {STUDY: b"1.2\0"}
    for lost in (1, 8, 9, 16, 20):
        with pytest.raises(MalformedError, match="cut off"):
            walk((UID + pixels)[:-lost], Encoding.of(JPEG), WANTED)


def test_a_sequence_of_unknown_vr_is_read_as_implicit() -> None:
    inside = struct.pack("<HHI", 0x0008, 0x0100, 4) + b"ABCD"
    endless = struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED)
    end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    unknown = element(0x00091010, b"UN", endless + inside + end + SEQUENCE_END, UNDEFINED)
    assert STUDY in walk(unknown + UID, Encoding.of(EXPLICIT), WANTED)


def test_implicit_vr_under_an_explicit_transfer_syntax_is_read_as_pydicom_does() -> None:
    body = struct.pack("<HHI", 0x0020, 0x000D, 4) + b"1.2\0"
    assert walk(body, Encoding.of(EXPLICIT), WANTED) == {STUDY: b"1.2\0"}
    assert walk(UID, Encoding.of(IMPLICIT), WANTED) == {STUDY: b"1.2\0"}


@pytest.mark.parametrize("zeros", [1, 3, 7, 8, 500])
def test_zeros_after_the_last_element_are_padding(zeros: int) -> None:
    assert STUDY in walk(UID + b"\0" * zeros, Encoding.of(EXPLICIT), WANTED)


@pytest.mark.parametrize("rest", [b"\x01", b"\0\0\0\x01", b"\x08\x00\x10"])
def test_other_bytes_after_the_last_element_are_not(rest: bytes) -> None:
    with pytest.raises(MalformedError, match="cut off"):
        walk(UID + rest, Encoding.of(EXPLICIT), WANTED)


def test_a_whole_file_sent_as_a_data_set_is_malformed() -> None:
    with pytest.raises(MalformedError, match="preamble"):
        walk(b"\0" * 128 + b"DICM" + UID, Encoding.of(EXPLICIT), WANTED)


@pytest.mark.parametrize("tag", [0x00000002, 0x00020010])
def test_elements_of_a_command_or_of_file_meta_are_malformed(tag: int) -> None:
    with pytest.raises(MalformedError, match="File Meta"):
        walk(element(tag, b"UI", b"1.2\0") + UID, Encoding.of(EXPLICIT), WANTED)


def test_sequences_nested_without_end_are_malformed() -> None:
    open_sequence = element(0x00081115, b"SQ", b"", UNDEFINED)
    open_item = struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED)
    with pytest.raises(MalformedError, match="nested more than"):
        walk(open_sequence + (open_item + open_sequence) * 5000, Encoding.of(EXPLICIT), WANTED)


def test_a_small_stream_that_inflates_to_much_holds_no_memory() -> None:
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    body = packer.compress(UID + element(PIXELS, b"OW", b"", 200_000_000))
    for _ in range(200):
        body += packer.compress(bytes(1_000_000))
    body += packer.flush()
    import tracemalloc

    tracemalloc.start()
    try:
        assert STUDY in walk(body, Encoding.of(DEFLATED), WANTED)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_values_far_longer_than_a_uid_are_not_returned() -> None:
    long = element(STUDY, b"UN", b"1" * 5000)
    assert walk(long, Encoding.of(EXPLICIT), WANTED) == {}
