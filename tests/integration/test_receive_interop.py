"""Real senders with each of their options: DCMTK's programs and pynetdicom's applications."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HEVCM10P51,
    HEVCMP51,
    JPEG2000,
    MPEG2MPHL,
    MPEG2MPML,
    MPEG4HP41,
    MPEG4HP41BD,
    MPEG4HP42STEREO,
    MPEG4HP422D,
    MPEG4HP423D,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicom_node.store.seal import is_whole
from tests.factories import radiograph
from tests.integration.test_receive_dcmtk import Running, start
from tests.peers.dcmtk import dcmsend, echoscu, run_tool, storescu

TO_US = ("-aec", "AINODE", "-aet", "XR")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    yield from start(tmp_path)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """An uncompressed radiograph of 8 bits, which every encoder takes."""
    image = radiograph()
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit = 7
    image.PixelData = np.arange(64 * 48, dtype=np.uint8).tobytes()
    file = tmp_path / "film.dcm"
    image.save_as(file, enforce_file_format=True)
    return file


def by(*command: str) -> Callable[[Path], Path]:
    """Encode with one of DCMTK's programs."""

    def encode(film: Path) -> Path:
        target = film.with_name("encoded.dcm")
        done = run_tool(*command, str(film), str(target))
        assert done.returncode == 0, done.stderr
        return target

    return encode


def as_is(film: Path) -> Path:
    return film


def encapsulated(syntax: str) -> Callable[[Path], Path]:
    """Bytes that stand for a stream: the receiver looks into none."""

    def encode(film: Path) -> Path:
        image = dcmread(film)
        image.PixelData = encapsulate([b"\x00\x01stream" * 500])
        image["PixelData"].VR = "OB"
        image["PixelData"].is_undefined_length = True
        image.file_meta.TransferSyntaxUID = syntax
        target = film.with_name("encoded.dcm")
        image.save_as(target, enforce_file_format=True)
        return target

    return encode


OPTIONS = {
    "--propose-uncompr": (as_is, ExplicitVRLittleEndian),
    "--propose-little": (as_is, ExplicitVRLittleEndian),
    "--propose-big": (by("dcmconv", "+tb"), ExplicitVRBigEndian),
    "--propose-implicit": (as_is, ImplicitVRLittleEndian),
    "--propose-lossless": (by("dcmcjpeg", "+e1"), JPEGLosslessSV1),
    "--propose-jpeg8": (by("dcmcjpeg", "+eb"), JPEGBaseline8Bit),
    "--propose-jpeg12": (by("dcmcjpeg", "+ee", "+bt"), JPEGExtended12Bit),
    "--propose-j2k-lossless": (encapsulated(JPEG2000Lossless), JPEG2000Lossless),
    "--propose-j2k-lossy": (encapsulated(JPEG2000), JPEG2000),
    "--propose-jls-lossless": (by("dcmcjpls", "+el"), JPEGLSLossless),
    "--propose-jls-lossy": (by("dcmcjpls", "+en"), JPEGLSNearLossless),
    "--propose-mpeg2": (encapsulated(MPEG2MPML), MPEG2MPML),
    "--propose-mpeg2-high": (encapsulated(MPEG2MPHL), MPEG2MPHL),
    "--propose-mpeg4": (encapsulated(MPEG4HP41), MPEG4HP41),
    "--propose-mpeg4-bd": (encapsulated(MPEG4HP41BD), MPEG4HP41BD),
    "--propose-mpeg4-2-2d": (encapsulated(MPEG4HP422D), MPEG4HP422D),
    "--propose-mpeg4-2-3d": (encapsulated(MPEG4HP423D), MPEG4HP423D),
    "--propose-mpeg4-2-st": (encapsulated(MPEG4HP42STEREO), MPEG4HP42STEREO),
    "--propose-hevc": (encapsulated(HEVCMP51), HEVCMP51),
    "--propose-hevc10": (encapsulated(HEVCM10P51), HEVCM10P51),
    "--propose-rle": (by("dcmcrle"), RLELossless),
    "--propose-deflated": (as_is, DeflatedExplicitVRLittleEndian),
}


def the_kept(running: Running) -> FileDataset:
    (file,) = running.spool.waiting()
    assert is_whole(file)
    return dcmread(file)


@pytest.mark.parametrize("option", OPTIONS)
def test_storescu_sends_in_each_transfer_syntax(running: Running, film: Path, option: str) -> None:
    encode, syntax = OPTIONS[option]
    file = encode(film)
    done = storescu(running.port, [file], *TO_US, option)
    assert done.returncode == 0, done.stderr
    image = the_kept(running)
    assert image.file_meta.TransferSyntaxUID == syntax
    assert image.PixelData == dcmread(file).PixelData
    assert image.SOPInstanceUID == dcmread(file).SOPInstanceUID


def test_the_options_are_all_that_storescu_has() -> None:
    told = run_tool("storescu", "--help").stdout
    assert {word for word in told.split() if word.startswith("--propose-")} == set(OPTIONS)


@pytest.mark.parametrize(
    "options",
    [
        ("--required",),
        ("--combine",),
        ("--max-pdu", "4096"),
        ("--max-pdu", "131072"),
        ("--max-send-pdu", "4096"),
        ("--repeat", "3"),
        ("--disable-new-vr",),
        ("--user", "somebody", "--empty-password"),
        ("--invent-instance",),
    ],
    ids=" ".join,
)
def test_storescu_sends_with_its_other_options(
    running: Running, film: Path, options: tuple[str, ...]
) -> None:
    done = storescu(running.port, [film], *TO_US, *options)
    assert done.returncode == 0, done.stderr
    waiting = running.spool.waiting()
    assert len(waiting) == (3 if "--repeat" in options else 1)
    assert all(dcmread(file).PixelData == dcmread(film).PixelData for file in waiting)


def test_storescu_that_aborts_at_its_end_has_sent_its_image(running: Running, film: Path) -> None:
    done = storescu(running.port, [film], *TO_US, "--abort")
    assert done.returncode == 0, done.stderr
    assert the_kept(running).SOPInstanceUID == dcmread(film).SOPInstanceUID


def test_storescu_renames_what_was_kept_and_what_was_refused(tmp_path: Path, film: Path) -> None:
    """By `+rn` a sender marks, and later deletes, what it was told is kept."""
    copy = shutil.copy(film, tmp_path / "other.dcm")
    for running in start(tmp_path / "takes"):
        assert storescu(running.port, [film], *TO_US, "+rn").returncode == 0
        assert len(running.spool.waiting()) == 1
    for running in start(tmp_path / "refuses", min_free_bytes=1 << 60):
        storescu(running.port, [copy], *TO_US, "+rn")
        assert running.spool.waiting() == []
    assert {file.name for file in tmp_path.glob("*.dcm*")} == {"film.dcm.done", "other.dcm.bad"}


def test_storescu_scans_a_folder(running: Running, film: Path) -> None:
    done = storescu(running.port, [film.parent], *TO_US, "+sd", "--scan-pattern", "film*")
    assert done.returncode == 0, done.stderr
    assert len(running.spool.waiting()) == 1


@pytest.mark.parametrize("options", [(), ("--max-pdu", "4096"), ("+ma",), ("-ma",)], ids=" ".join)
def test_dcmsend_sends_files_of_several_syntaxes_at_once(
    running: Running, film: Path, options: tuple[str, ...]
) -> None:
    encoded = by("dcmcjpeg", "+e1")(film)
    other = dcmread(encoded)
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    other.save_as(encoded)
    done = dcmsend(running.port, [film, encoded], *TO_US, *options)
    assert done.returncode == 0, done.stderr
    assert len(running.spool.waiting()) == 2


@pytest.mark.parametrize("options", [(), ("--propose-ts", "38"), ("--propose-pc", "128")])
def test_echoscu_is_answered(running: Running, options: tuple[str, ...]) -> None:
    done = echoscu(running.port, *TO_US, *options)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def pynetdicom_app(name: str, port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pynetdicom", name, "127.0.0.1", str(port), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_pynetdicom_echoes(running: Running) -> None:
    done = pynetdicom_app("echoscu", running.port, *TO_US, "-v")
    assert done.returncode == 0, done.stderr
    assert "0x0000" in done.stdout + done.stderr


@pytest.mark.parametrize("options", [(), ("-xi",), ("-xe",), ("-cx",), ("--max-pdu", "0")])
def test_pynetdicom_stores(running: Running, film: Path, options: tuple[str, ...]) -> None:
    if options == ("-xi",):
        implicit = film.with_name("implicit.dcm")
        assert run_tool("dcmconv", "+ti", str(film), str(implicit)).returncode == 0
        film = implicit
    done = pynetdicom_app("storescu", running.port, str(film), *TO_US, "-v", *options)
    assert done.returncode == 0, done.stderr
    assert the_kept(running).PixelData == dcmread(film).PixelData
