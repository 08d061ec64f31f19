"""Every real DICOM file at hand, in every transfer syntax."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.errors import ImageError
from dicom_node.inference.radiograph import Radiograph, read_radiograph

UNDECODABLE = {
    "JPEGProcess10_12_1.2.840.10008.1.2.4.55.dcm": "JPEG Full Progression",
    "JPEGProcess6_8_1.2.840.10008.1.2.4.53.dcm": "JPEG Spectral Selection",
    # 12-bit sequential JPEG whose scan header is wrong
    "RG2_JPLY.dcm": "JPEG Extended",
    "MR3_JPLY.dcm": "JPEG Extended",
}
REFUSED = {
    **UNDECODABLE,
    "no-pixel-data.dcm": "it has no pixels",
    "US-YBR_FULL_422-EVRLE.dcm": "it is a colour image",
    "US1_J2KR.dcm": "it is a colour image",
}


def read(file: Path) -> Radiograph:
    return read_radiograph(dcmread(file))[0]


def test_every_file_is_shown_or_refused_with_a_reason(shared: Path) -> None:
    files = sorted((shared / "dicom").rglob("*.dcm"))
    assert len(files) > 40
    refused = {}
    for file in files:
        try:
            images = read_radiograph(dcmread(file))
        except ImageError as error:
            refused[file.name] = error.why
            continue
        for image in images:
            assert image.pixels.dtype == np.float32
            assert 0 <= image.pixels.min() < 0.2
            assert 0.8 < image.pixels.max() <= 1
            assert image.pixels.std() > 0.05, file.name
    assert refused.keys() == REFUSED.keys()
    assert all(REFUSED[name] in why for name, why in refused.items())


@pytest.mark.parametrize(
    ("folder", "count"),
    [
        ("hip_cr", 5),
        ("extremity_cr", 3),
        ("knee_mr", 4),
        ("ct_transfer_syntaxes", 9),
    ],
)
def test_all_lossless_syntaxes_of_an_image_give_the_same_array(
    shared: Path, folder: str, count: int
) -> None:
    lossless = [
        file
        for file in sorted((shared / "dicom" / folder).glob("*.dcm"))
        if not any(
            word in file.name
            for word in ("J2KI", "JLSN", "JPLY", "JPEG2000_1", "JPEGLSLossy", "JPEGProcess1_", "51")
        )
        and file.name not in UNDECODABLE
    ]
    assert len(lossless) == count
    arrays = [read(file).pixels for file in lossless]
    assert all(np.array_equal(arrays[0], other) for other in arrays[1:])


def test_lossy_syntaxes_look_like_the_lossless_one(shared: Path) -> None:
    hips = shared / "dicom" / "hip_cr"
    exact = read(hips / "RG2_UNC.dcm").pixels
    for name in ("RG2_J2KI.dcm", "RG2_JLSN.dcm"):
        assert np.abs(read(hips / name).pixels - exact).mean() < 0.01
    slices = shared / "dicom" / "ct_transfer_syntaxes"
    exact = read(slices / "LittleEndianExplicit_1.2.840.10008.1.2.1.dcm").pixels
    for name in ("JPEG2000_1.2.840.10008.1.2.4.91.dcm", "JPEGLSLossy_1.2.840.10008.1.2.4.81.dcm"):
        assert np.abs(read(slices / name).pixels - exact).mean() < 0.01


def test_the_bone_of_a_monochrome1_radiograph_is_bright(shared: Path) -> None:
    image = read(shared / "dicom" / "extremity_cr" / "RG3_UNC.dcm")
    bone, air = image.pixels[600:1200, 800:920], image.pixels[600:1200, 500:580]
    assert np.median(bone) > 0.5 + np.median(air)
