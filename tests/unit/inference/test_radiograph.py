"""Radiographs as senders make them: whole, damaged, odd."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from dicom_node.errors import ImageError
from dicom_node.inference.radiograph import read_radiograph, spacing_of
from tests.factories import radiograph

RAMP = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)


def coloured(rgb: np.ndarray) -> FileDataset:
    dataset = radiograph(RAMP)
    dataset.SamplesPerPixel = 3
    dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = "RGB"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelData = rgb.astype(np.uint8).tobytes()
    return dataset


def compressed(syntax: str = JPEG2000Lossless) -> FileDataset:
    rng = np.random.default_rng(3)
    dataset = radiograph((RAMP + rng.integers(0, 50, RAMP.shape)).astype(np.uint16))
    dataset.compress(syntax, generate_instance_uid=False)
    return dataset


def test_an_image_comes_with_its_reference_and_picture() -> None:
    dataset = radiograph(RAMP)
    (image,) = read_radiograph(dataset)
    assert image.reference.sop_instance_uid == dataset.SOPInstanceUID
    assert image.reference.frame is None
    assert image.pixels.shape == image.picture.shape == (64, 48)
    assert image.picture.dtype == np.uint8
    assert (image.picture[0, 0], image.picture[-1, -1]) == (0, 255)
    assert image.spacing == (0.2, 0.2)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_every_depth_shows_the_same(bits: int) -> None:
    image = (RAMP % 256).astype(np.uint16) << (bits - 8)
    (shown,) = read_radiograph(radiograph(image, BitsStored=bits, HighBit=bits - 1))
    (eight,) = read_radiograph(radiograph(RAMP % 256, BitsStored=8, HighBit=7))
    assert (shown.pixels == eight.pixels).all()


def test_eight_bits_allocated_are_read() -> None:
    dataset = radiograph(RAMP, BitsAllocated=8, BitsStored=8, HighBit=7)
    dataset.PixelData = (RAMP % 256).astype(np.uint8).tobytes()
    assert read_radiograph(dataset)[0].pixels.max() == 1


def test_signed_values_are_read() -> None:
    signed = (RAMP.astype(np.int16) - 1500).view(np.uint16)
    attributes = {"PixelRepresentation": 1, "BitsStored": 16, "HighBit": 15}
    (shown,) = read_radiograph(radiograph(signed, **attributes))
    (plain,) = read_radiograph(radiograph(RAMP))
    assert shown.pixels == pytest.approx(plain.pixels, abs=1e-6)


def test_overlays_in_unused_bits_do_not_show() -> None:
    attributes = {"BitsStored": 12, "HighBit": 11}
    (shown,) = read_radiograph(radiograph(RAMP | 0x8000, **attributes))
    assert (shown.pixels == read_radiograph(radiograph(RAMP))[0].pixels).all()


def test_each_frame_is_an_image_of_its_own() -> None:
    dataset = radiograph(RAMP)
    dataset.NumberOfFrames = 2
    dataset.PixelData = np.stack([RAMP, RAMP[::-1]]).tobytes()
    first, second = read_radiograph(dataset)
    assert (first.reference.frame, second.reference.frame) == (1, 2)
    assert (first.pixels == second.pixels[::-1]).all()


@pytest.mark.parametrize(
    "syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless], ids=["j2k", "jls", "rle"]
)
def test_lossless_compression_changes_nothing(syntax: str) -> None:
    dataset = compressed(syntax)
    (shown,) = read_radiograph(dataset)
    dataset.decompress(generate_instance_uid=False)
    assert (shown.pixels == read_radiograph(dataset)[0].pixels).all()


@pytest.mark.parametrize("kept", [0.3, 0.95])
@pytest.mark.parametrize(
    "syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless], ids=["j2k", "jls", "rle"]
)
def test_compressed_pixels_that_are_cut_off_are_refused(syntax: str, kept: float) -> None:
    dataset = compressed(syntax)
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([frame[: int(len(frame) * kept) // 2 * 2]])
    with pytest.raises(ImageError):
        read_radiograph(dataset)


def test_pixels_that_are_cut_off_are_refused() -> None:
    dataset = radiograph(RAMP)
    dataset.PixelData = dataset.PixelData[:-100]
    with pytest.raises(ImageError, match="it has only 6044 of 6144 bytes"):
        read_radiograph(dataset)


def test_noise_in_place_of_a_codestream_is_refused_with_the_syntax_and_the_way_out() -> None:
    dataset = radiograph(RAMP)
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    noise = np.random.default_rng(1).bytes(998) + b"\xff\xd9"
    dataset.PixelData = encapsulate([noise])
    with pytest.raises(ImageError) as caught:
        read_radiograph(dataset)
    assert "JPEG Lossless" in caught.value.why
    assert "Explicit VR Little Endian" in caught.value.fix


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ({"Rows": 0}, "how many pixels"),
        ({"Rows": None}, "how many pixels"),
        ({"Rows": 65535, "Columns": 65535}, "more than"),
        ({"Rows": 65000, "Columns": 3}, "bytes of pixels"),
        ({"BitsAllocated": 12}, "bytes of pixels|cannot be decoded"),
        ({"PhotometricInterpretation": ""}, "cannot be decoded"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(attributes: dict[str, Any], why: str) -> None:
    with pytest.raises(ImageError, match=why):
        read_radiograph(radiograph(RAMP, **attributes))


def test_an_instance_without_pixels_is_refused() -> None:
    dataset = radiograph(RAMP)
    del dataset.PixelData
    with pytest.raises(ImageError, match="it has no pixels"):
        read_radiograph(dataset)


def test_a_thumbnail_is_refused() -> None:
    with pytest.raises(ImageError, match="only 48 by 8 pixels"):
        read_radiograph(radiograph(RAMP[:8]))


@pytest.mark.parametrize("value", [0, 4095])
def test_a_blank_exposure_is_refused(value: int) -> None:
    with pytest.raises(ImageError, match="same value"):
        read_radiograph(radiograph(np.full((64, 48), value, np.uint16)))


def test_a_grey_image_in_colour_is_read() -> None:
    grey = (RAMP % 256).astype(np.uint8)
    (shown,) = read_radiograph(coloured(np.repeat(grey[:, :, None], 3, axis=2)))
    (plain,) = read_radiograph(radiograph(grey, BitsStored=8, HighBit=7))
    assert (shown.pixels == plain.pixels).all()


def test_a_colour_image_is_refused() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (64, 48, 3))
    with pytest.raises(ImageError, match="it is a colour image"):
        read_radiograph(coloured(rgb))


@pytest.mark.parametrize("red", [lambda n: n, lambda n: 255 - n], ids=["grey", "colour"])
def test_a_palette_is_looked_up(red: Any) -> None:
    grey = [n << 8 | n for n in range(256)]
    dataset = radiograph(RAMP % 256, BitsStored=8, HighBit=7)
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for name, values in (
        ("Red", [grey[red(n)] for n in range(256)]),
        ("Green", grey),
        ("Blue", grey),
    ):
        dataset.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        table = np.array(values, "<u2").tobytes()
        dataset.add_new(f"{name}PaletteColorLookupTableData", "OW", table)
    if red(0):
        with pytest.raises(ImageError, match="it is a colour image"):
            read_radiograph(dataset)
    else:
        assert read_radiograph(dataset)[0].pixels.max() == 1


@pytest.mark.parametrize(
    ("attributes", "spacing"),
    [
        ({"PixelSpacing": [0.1, 0.2], "ImagerPixelSpacing": [0.3, 0.3]}, (0.1, 0.2)),
        ({"PixelSpacing": None, "ImagerPixelSpacing": [0.3, 0.3]}, (0.3, 0.3)),
        ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.3, 0.3]}, (0.3, 0.3)),
        ({"PixelSpacing": [0, 0]}, None),
        ({"PixelSpacing": "0.2"}, None),
        ({"PixelSpacing": None}, None),
        ({"PixelSpacing": [200, 200]}, None),
    ],
)
def test_spacing_is_taken_where_it_makes_sense(
    attributes: dict[str, Any], spacing: tuple[float, float] | None
) -> None:
    assert spacing_of(radiograph(RAMP, **attributes)) == spacing


@pytest.mark.filterwarnings("ignore:Invalid value for VR DS")
@pytest.mark.parametrize("text", ["nan\\nan", "abc\\def"])
def test_a_spacing_that_is_no_number_is_not_known(text: str) -> None:
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    dataset = radiograph(RAMP)
    tag = Tag("PixelSpacing")
    value = text.encode()
    dataset._dict[tag] = RawDataElement(tag, "DS", len(value), value, 0, False, True)
    assert spacing_of(dataset) is None
    assert read_radiograph(dataset)[0].pixels.max() == 1
