"""The standard's grey-scale transformations, compared with pydicom's where pydicom has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing

from dicom_node.inference.display import NothingShownError, display, window

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value", "ignore:overflow")

RAMP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)


def header(**attributes: Any) -> Dataset:
    dataset = Dataset()
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsStored = 12
    dataset.PixelRepresentation = 0
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def lut(
    values: list[int] | bytes, first: int = 0, bits: int = 16, entries: int | None = None
) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [entries or len(values), first, bits])
    item.add_new("LUTData", "OW" if isinstance(values, bytes) else "US", values)
    return item


@given(
    centre=st.floats(-2000, 6000),
    width=st.floats(1.5, 8000),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
)
def test_windows_are_those_of_pydicom(centre: float, width: float, function: str) -> None:
    axis = np.linspace(-1000, 5000, 601)
    rules = header(WindowCenter=centre, WindowWidth=width, VOILUTFunction=function)
    expected = apply_windowing(axis, rules) / 4095
    assert window(axis, centre, width, function) == pytest.approx(expected, abs=1e-6)


def test_a_window_of_one_is_a_step() -> None:
    assert window(np.array([9.0, 10.0]), 10, 1).tolist() == [0, 1]


def test_an_unknown_function_is_linear() -> None:
    axis = np.linspace(0, 100, 11)
    assert window(axis, 50, 60, "MAGIC").tolist() == window(axis, 50, 60).tolist()


def test_the_first_of_several_windows_is_taken() -> None:
    several = header(WindowCenter=[2000, 300], WindowWidth=[3000, 100])
    one = header(WindowCenter=2000, WindowWidth=3000)
    assert (display(RAMP, several) == display(RAMP, one)).all()


def test_monochrome1_is_inverted() -> None:
    shown = display(RAMP, header(PhotometricInterpretation="MONOCHROME1"))
    assert shown[0, 0] == 1
    assert shown[-1, -1] == 0


def test_monochrome1_with_shape_inverse_is_inverted_once() -> None:
    rules = header(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE")
    assert display(RAMP, rules)[0, 0] == 1


def test_shape_inverse_alone_inverts() -> None:
    assert display(RAMP, header(PresentationLUTShape="INVERSE"))[0, 0] == 1


@pytest.mark.parametrize(("sign", "first"), [(1, 1.0), (-1, 0.0)])
def test_raw_detector_data_are_turned_by_their_intensity_sign(sign: int, first: float) -> None:
    rules = header(PresentationIntentType="FOR PROCESSING", PixelIntensityRelationshipSign=sign)
    assert display(RAMP, rules)[0, 0] == first


def test_a_voi_lut_comes_before_a_window() -> None:
    curve = [int(4095 * (n / 4095) ** 2) for n in range(4096)]
    rules = header(WindowCenter=2048, WindowWidth=4096)
    rules.VOILUTSequence = [lut(curve)]
    expected = apply_voi(RAMP, rules) / 4095
    assert display(RAMP, rules) == pytest.approx(expected, abs=1e-6)


def test_a_modality_lut_is_applied_before_the_window() -> None:
    rules = header(WindowCenter=2048, WindowWidth=4096)
    rules.ModalityLUTSequence = [lut([4095 - n for n in range(4096)])]
    values = apply_modality_lut(RAMP, rules).astype(float)
    assert display(RAMP, rules) == pytest.approx(window(values, 2048, 4096), abs=1e-6)


def test_a_lut_may_begin_above_zero_and_hold_bytes() -> None:
    table = bytes(range(256))
    rules = header()
    rules.VOILUTSequence = [lut(table, first=1000, bits=8, entries=256)]
    rules.VOILUTSequence[0]["LUTData"].VR = "OW"
    shown = display(np.array(RAMP % 256 + 1000, np.uint16), rules)
    assert shown.reshape(-1)[:256] == pytest.approx(np.arange(256) / 255, abs=1e-6)


@pytest.mark.parametrize(
    "item", [lut([1, 2, 3], entries=4096), lut([7] * 4096), Dataset(), lut([5])]
)
def test_a_broken_lut_is_left_out(item: Dataset) -> None:
    rules = header(WindowCenter=2048, WindowWidth=4096)
    rules.VOILUTSequence = [item]
    rules.ModalityLUTSequence = [item]
    expected = display(RAMP, header(WindowCenter=2048, WindowWidth=4096))
    assert (display(RAMP, rules) == expected).all()


def test_rescale_comes_before_the_window() -> None:
    rules = header(RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=3000, WindowWidth=8000)
    expected = window(RAMP * 2.0 - 1000, 3000, 8000)
    assert display(RAMP, rules) == pytest.approx(expected, abs=1e-6)


def test_a_slope_of_zero_is_not_believed() -> None:
    rules = header(RescaleSlope=0, RescaleIntercept=5)
    assert (display(RAMP, rules) == display(RAMP, header(RescaleIntercept=5))).all()


@pytest.mark.parametrize(
    ("centre", "width"), [(40, 400), (60000, 1000), (32768, 65536), (128, 1), (2000, -5), (9, 0)]
)
def test_a_window_that_shows_next_to_nothing_is_not_believed(centre: float, width: float) -> None:
    rules = header(WindowCenter=centre, WindowWidth=width)
    assert (display(RAMP, rules) == display(RAMP, header())).all()


def test_a_window_may_blacken_the_air_around_a_small_part() -> None:
    image = np.zeros((100, 100), np.uint16) + np.arange(100, dtype=np.uint16)
    image[30:70, 30:80] = np.arange(2000).reshape(40, 50) + 1000
    rules = header(WindowCenter=2000, WindowWidth=2000)
    assert display(image, rules) == pytest.approx(window(image * 1.0, 2000, 2000), abs=1e-6)


def test_a_few_huge_values_do_not_darken_the_image() -> None:
    image = np.array(RAMP)
    image[:1, :5] = 65535
    image[1, :5] = 60000
    shown = display(image, header())
    assert 0.4 < np.median(shown) < 0.6
    assert shown.max() == 1


def test_a_bright_border_does_not_darken_the_image() -> None:
    image = np.array(RAMP)
    image[:8] = image[-8:] = 65535
    assert 0.3 < np.median(display(image, header())[8:-8]) < 0.7


def test_padding_is_black_and_does_not_count() -> None:
    image = np.array(RAMP) + 1000
    image[:8] = 0
    plain = display(image, header(PixelPaddingValue=0))
    assert (plain[:8] == 0).all()
    inverted = display(image, header(PixelPaddingValue=0, PhotometricInterpretation="MONOCHROME1"))
    assert (inverted[:8] == 0).all()
    assert inverted[8, 0] == 1


def test_a_range_of_padding_is_left_out() -> None:
    image = np.array(RAMP)
    image[:8] = 65000
    image[8] = 64000
    rules = header(PixelPaddingValue=65535, PixelPaddingRangeLimit=64000)
    assert (display(image, rules)[:9] == 0).all()
    assert display(image, rules)[9:].max() == 1


def test_padding_that_is_the_whole_image_is_not_believed() -> None:
    rules = header(PixelPaddingValue=0, PixelPaddingRangeLimit=65535)
    assert (display(RAMP, rules) == display(RAMP, header())).all()


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_a_constant_image_shows_nothing(value: int) -> None:
    with pytest.raises(NothingShownError):
        display(np.full((20, 20), value, np.uint16), header())


def test_an_image_constant_but_for_its_padding_shows_nothing() -> None:
    image = np.full((20, 20), 7, np.uint16)
    image[0] = 0
    with pytest.raises(NothingShownError):
        display(image, header(PixelPaddingValue=0))


def test_values_that_are_no_numbers_are_black() -> None:
    image = RAMP.astype(np.float32)
    image[3, 3], image[4, 4] = np.nan, np.inf
    shown = display(image, header())
    assert np.isfinite(shown).all()
    assert shown[3, 3] == 0
    with pytest.raises(NothingShownError):
        display(np.full((20, 20), np.nan, np.float32), header())


def test_values_of_32_bits_are_shown() -> None:
    shown = display(RAMP.astype(np.uint32) * 1_000_000, header())
    assert shown == pytest.approx(display(RAMP, header()), abs=1e-6)


_NUMBER = st.one_of(st.none(), st.integers(-(10**6), 10**6), st.floats(-1e9, 1e9).map(float))


@settings(max_examples=150)
@given(
    centre=_NUMBER,
    width=_NUMBER,
    slope=_NUMBER,
    intercept=_NUMBER,
    padding=st.one_of(st.none(), st.integers(-32768, 65535)),
    function=st.sampled_from(["LINEAR", "SIGMOID", "", "MAGIC"]),
    photometric=st.sampled_from(["MONOCHROME1", "MONOCHROME2", ""]),
    seed=st.integers(0, 99),
    signed=st.booleans(),
)
def test_whatever_a_header_says_the_image_is_0_to_1_and_never_flat(
    centre: float | None,
    width: float | None,
    slope: float | None,
    intercept: float | None,
    padding: int | None,
    function: str,
    photometric: str,
    seed: int,
    signed: bool,
) -> None:
    low, high = (-2000, 2000) if signed else (0, 4096)
    image = np.random.default_rng(seed).integers(low, high, (24, 24))
    rules = header(PhotometricInterpretation=photometric, VOILUTFunction=function)
    for keyword, value in (
        ("WindowCenter", centre),
        ("WindowWidth", width),
        ("RescaleSlope", slope),
        ("RescaleIntercept", intercept),
        ("PixelPaddingValue", padding),
    ):
        if value is not None:
            element = value if keyword == "PixelPaddingValue" else f"{value:.6g}"
            rules.add_new(keyword, "SS" if keyword == "PixelPaddingValue" else "DS", element)
    shown = display(image.astype(np.int16 if signed else np.uint16), rules)
    assert shown.dtype == np.float32
    assert shown.min() >= 0
    assert shown.max() <= 1
    assert np.ptp(shown) > 0.09
