"""CT series as scanners send them, to one volume or a reason."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import FileDataset

from dicom_node.errors import ImageError
from dicom_node.inference.planes import planes_of
from dicom_node.inference.stack import UnfitVolumeError, stack_of
from dicom_node.inference.volume import read_volume, windowed
from dicom_node.model import own_codes
from tests.unit.inference.ct_files import enhanced, series, write

HEIGHTS = [30.0, 33.0, 36.0, 39.0, 42.0, 45.0]


def heights_of(volume: Any) -> list[float]:
    return [float(v) for v in volume.values[10, 10]]


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_slices_go_from_feet_to_head_in_whatever_order_they_came(
    tmp_path: Path, seed: int | None
) -> None:
    slices = series(HEIGHTS)
    if seed is not None:
        random.Random(seed).shuffle(slices)
    volume = read_volume(write(tmp_path, slices))
    assert volume.values.shape == (20, 24, 6)
    assert volume.values.dtype == np.int16
    assert heights_of(volume) == HEIGHTS
    by_height = sorted(slices, key=lambda item: float(item.ImagePositionPatient[2]))
    assert [r.sop_instance_uid for r in volume.references] == [s.SOPInstanceUID for s in by_height]
    assert volume.spacing == (1.0, 1.0, 3.0)
    assert volume.notes == ()


def test_the_affine_brings_a_voxel_to_its_place_in_the_patient(tmp_path: Path) -> None:
    slices = series(HEIGHTS, PixelSpacing=[0.5, 0.8])
    for item in slices:
        item.ImagePositionPatient = [-100, -200, item.ImagePositionPatient[2]]
    volume = read_volume(write(tmp_path, slices))
    right, anterior, up, _ = volume.affine @ [4, 7, 2, 1]
    # DICOM: x = -100 + 7 * 0.8 to the left, y = -200 + 4 * 0.5 to the back; RAS turns both
    assert (right, anterior, up) == pytest.approx((94.4, 198.0, 36.0))


def test_values_are_hounsfield_units(tmp_path: Path) -> None:
    slices = series(HEIGHTS, RescaleSlope=2, RescaleIntercept=-1000)
    volume = read_volume(write(tmp_path, slices))
    assert volume.values[0, 0, 0] == 1000 * 2 - 1000
    assert volume.values[10, 10, 1] == (1024 + 33) * 2 - 1000


def test_a_rescale_that_makes_fractions_is_kept_exactly(tmp_path: Path) -> None:
    volume = read_volume(write(tmp_path, series(HEIGHTS, RescaleSlope="0.5")))
    assert volume.values.dtype == np.float32
    assert volume.values[10, 10, 1] == (1024 + 33) * 0.5 - 1024


def test_every_slice_has_its_picture(tmp_path: Path) -> None:
    volume = read_volume(write(tmp_path, series(HEIGHTS)))
    assert np.array_equal(volume.pictures, windowed(np.moveaxis(volume.values, -1, 0)))


def test_padding_below_air_is_air(tmp_path: Path) -> None:
    volume = read_volume(write(tmp_path, series(HEIGHTS, RescaleIntercept=-3024)))
    assert volume.values.min() == -1024


def test_feet_first_series_go_from_feet_to_head_too(tmp_path: Path) -> None:
    orientation = [-1, 0, 0, 0, 1, 0]
    volume = read_volume(write(tmp_path, series(HEIGHTS, ImageOrientationPatient=orientation)))
    assert heights_of(volume) == HEIGHTS
    assert volume.affine[2, 2] == pytest.approx(3)


def test_localizers_and_strays_are_left_out_and_told(tmp_path: Path) -> None:
    localizer = series([100.0], first=50, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    stray = series([60.0], first=60, ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    unplaced = series([60.0], first=70, ImagePositionPatient=None)
    slices = [*localizer, *series(HEIGHTS), *stray, *unplaced]
    volume = read_volume(write(tmp_path, slices))
    assert heights_of(volume) == HEIGHTS
    assert volume.notes == (
        "1 images left out: localizer",
        "1 images left out: without a position",
        "1 images left out: of another orientation or size",
    )


def test_an_image_that_came_twice_counts_once(tmp_path: Path) -> None:
    again = series([36.0], first=99)
    volume = read_volume(write(tmp_path, [*again, *series(HEIGHTS)]))
    assert heights_of(volume) == HEIGHTS
    assert again[0].SOPInstanceUID not in [r.sop_instance_uid for r in volume.references]
    assert volume.notes == ("1 images left out: at the place of another",)


def test_of_two_passes_the_longer_is_taken(tmp_path: Path) -> None:
    short = series(HEIGHTS[1:4], AcquisitionNumber=1)
    long = series(HEIGHTS, first=10, AcquisitionNumber=2)
    volume = read_volume(write(tmp_path, [*short, *long]))
    taken = {r.sop_instance_uid for r in volume.references}
    assert taken == {item.SOPInstanceUID for item in long}


@pytest.mark.parametrize("interleaved", [False, True])
def test_of_two_passes_that_are_not_told_apart_the_first_is_taken_whole(
    tmp_path: Path, interleaved: bool
) -> None:
    first, second = series(HEIGHTS), series(HEIGHTS, first=10)
    if interleaved:
        for number, pair in enumerate(zip(first, second, strict=True)):
            pair[0].InstanceNumber, pair[1].InstanceNumber = 2 * number + 1, 2 * number + 2
    volume = read_volume(write(tmp_path, [*second, *first]))
    taken = {r.sop_instance_uid for r in volume.references}
    assert taken == {item.SOPInstanceUID for item in first}


def _mixed() -> list[FileDataset]:
    coronal = [1, 0, 0, 0, 0, -1]
    return [*series(HEIGHTS), *series(HEIGHTS, first=20, ImageOrientationPatient=coronal)]


@pytest.mark.parametrize(
    ("slices", "reason", "why"),
    [
        (series([30, 33, 39, 42, 45, 48]), own_codes.UNFIT_GEOMETRY, "1 of 5 distances"),
        (series([30, 31, 34, 39, 46]), own_codes.UNFIT_GEOMETRY, "spaced unevenly"),
        (series([30, 31.25, 32.5, 33.75, 35, 40, 45, 50]), own_codes.UNFIT_GEOMETRY, "mixes"),
        (_mixed(), own_codes.UNFIT_GEOMETRY, "mixes"),
        (series([30]), own_codes.TOO_FEW_SLICES, "fewer than two"),
        (series([30, 30, 30]), own_codes.TOO_FEW_SLICES, "one place"),
        (series(HEIGHTS, ImageType=["LOCALIZER"]), own_codes.TOO_FEW_SLICES, "fewer"),
        (series(HEIGHTS, PixelSpacing=[0, 0]), own_codes.TOO_FEW_SLICES, "fewer"),
        (series(HEIGHTS, ImageOrientationPatient=[0] * 6), own_codes.TOO_FEW_SLICES, "fewer"),
        (series(HEIGHTS, RescaleIntercept=None), own_codes.IMPLAUSIBLE_HU, "Hounsfield"),
        (series(HEIGHTS, RescaleType="Z_EFF"), own_codes.IMPLAUSIBLE_HU, "Hounsfield"),
        (series(HEIGHTS, RescaleType="HU_MOD"), own_codes.IMPLAUSIBLE_HU, "Hounsfield"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_series_that_makes_no_volume_is_refused_with_the_reason(
    tmp_path: Path, slices: list[FileDataset], reason: Any, why: str
) -> None:
    with pytest.raises(UnfitVolumeError, match=why) as caught:
        read_volume(write(tmp_path, slices))
    assert caught.value.reason == reason


def test_positions_rounded_to_a_tenth_are_even(tmp_path: Path) -> None:
    heights = [round(0.625 * n, 1) for n in range(20)]
    volume = read_volume(write(tmp_path, series(heights)))
    assert volume.spacing[2] == pytest.approx(0.625, abs=0.01)


@pytest.mark.parametrize("order", [1, -1])
def test_an_enhanced_ct_is_a_volume_of_its_frames(tmp_path: Path, order: int) -> None:
    dataset = enhanced(HEIGHTS[::order])
    volume = read_volume(write(tmp_path, [dataset]))
    assert heights_of(volume) == HEIGHTS
    assert volume.spacing == (0.5, 0.5, 3.0)
    assert {r.sop_instance_uid for r in volume.references} == {dataset.SOPInstanceUID}
    assert [r.frame for r in volume.references] == [1, 2, 3, 4, 5, 6][::order]


def test_an_enhanced_ct_of_other_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnfitVolumeError, match="Hounsfield"):
        read_volume(write(tmp_path, [enhanced(HEIGHTS, RescaleType="MGML")]))


def test_a_slice_whose_pixels_are_missing_is_no_volume(tmp_path: Path) -> None:
    slices = series(HEIGHTS)
    del slices[2].PixelData
    with pytest.raises(ImageError, match="it has no pixels"):
        read_volume(write(tmp_path, slices))


def test_a_file_that_is_no_dicom_is_told_without_its_folder(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(b"no DICOM")
    with pytest.raises(ImageError) as caught:
        read_volume([tmp_path / "x.dcm"])
    assert caught.value.what == "file x.dcm"


def test_the_picture_shows_soft_tissue_and_bone() -> None:
    shown = windowed(np.array([-1000, -150, 40, 350, 850, 3000], np.float32))
    assert shown.tolist() == [0, 0, 48, 128, 255, 255]


def test_a_real_ct_in_compressed_slices_makes_a_volume(shared: Path) -> None:
    volume = read_volume(sorted((shared / "dicom" / "ct_missing_uids").glob("*.dcm")))
    assert volume.values.shape == (512, 512, 20)
    assert -1024 <= volume.values.min() < -900
    assert 800 < volume.values.max() < 4000


@settings(deadline=None)
@given(
    step=st.floats(0.5, 8),
    count=st.integers(2, 30),
    start=st.floats(-900, 900),
    seed=st.integers(0, 1000),
    tilt=st.floats(-0.9, 0.9),
)
def test_any_regular_stack_in_any_order_is_found(
    step: float, count: int, start: float, seed: int, tilt: float
) -> None:
    """Oblique stacks too: the gantry is straight when the way follows the normal."""
    cosine = float(np.sqrt(1 - tilt**2))
    normal = np.array([0, -tilt, cosine])
    slices = series([0.0] * count)
    for number, item in enumerate(slices):
        item.ImageOrientationPatient = [1, 0, 0, 0, cosine, tilt]
        item.ImagePositionPatient = [round(float(v), 4) for v in normal * (start + step * number)]
    random.Random(seed).shuffle(slices)
    stack = stack_of(planes_of(slices))
    assert [plane.number for plane in stack.planes] == list(range(1, count + 1))
    assert stack.step == pytest.approx(step, abs=0.01)
    first = stack.affine @ [0, 0, 0, 1]
    last = stack.affine @ [0, 0, count - 1, 1]
    expected = np.array([1, 1, 1]) * normal * step * (count - 1) * [-1, -1, 1]
    assert (last - first)[:3] == pytest.approx(expected, abs=0.01)
