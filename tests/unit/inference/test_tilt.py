"""Series of a tilted gantry, made straight and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from dicom_node.inference.as_sent import box_as_sent, regions_as_sent
from dicom_node.inference.sources import Source
from dicom_node.inference.stack import UnfitVolumeError
from dicom_node.inference.volume import Volume, read_volume
from dicom_node.model import own_codes
from dicom_node.model.codes import Code
from dicom_node.model.findings import Region, Side, Subject
from tests.factories import ct_slice
from tests.unit.inference.ct_files import SERIES, STUDY, write

SHAPE = (40, 24)
PIXEL_MM = 0.8
LABEL = Code("x", "99DCMNODE", "x")


def tilted(
    degrees: float,
    hounsfield: Callable[[np.ndarray], np.ndarray],
    *,
    count: int = 12,
    step: float = 2.0,
    about: int = 1,
) -> list[FileDataset]:
    """Slices of a patient (points [..., 3], LPS mm, to HU), the table moving along the body.

    Args:
        about: 1: the gantry leans forwards or backwards, 0: to the side.
    """
    angle = np.radians(degrees)
    row, column = np.eye(3)[0], np.eye(3)[1]
    leaning = column if about == 1 else row
    leaning = leaning * np.cos(angle) + np.array([0, 0, np.sin(angle)])
    row, column = (row, leaning) if about == 1 else (leaning, column)
    rows, columns = np.meshgrid(*(np.arange(n) * PIXEL_MM for n in SHAPE), indexing="ij")
    slices = []
    for number in range(count):
        corner = np.array([-10.0, -16.0, 50 + step * number])
        points = corner + rows[..., None] * column + columns[..., None] * row
        values = np.round(hounsfield(points) + 1024).astype(np.uint16)
        made = ct_slice(
            values, 0.0, study=STUDY, series=SERIES, number=number + 1, PixelSpacing=[PIXEL_MM] * 2
        )
        made.ImagePositionPatient = [round(float(v), 4) for v in corner]
        made.ImageOrientationPatient = [round(float(v), 6) for v in (*row, *column)]
        slices.append(made)
    return slices


def ramp(points: np.ndarray) -> np.ndarray:
    """HU that tell where they are: 10 a mm to the back, 3 a mm to the head, 1 to the left."""
    return np.asarray(points @ np.array([1.0, 10.0, 3.0]), np.float64)


def inside(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Values of the voxels that a slice fills, and their places (LPS mm)."""
    filled = np.argwhere(volume.values > -1024)
    places = filled @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    return volume.values[tuple(filled.T)], places * [-1, -1, 1]


@pytest.mark.parametrize("about", [0, 1])
@pytest.mark.parametrize("degrees", [-20.0, -7.0, 4.0, 15.0, 25.0])
def test_every_voxel_stands_within_half_a_pixel_of_its_place(
    tmp_path: Path, degrees: float, about: int
) -> None:
    volume = read_volume(write(tmp_path, tilted(degrees, ramp, about=about)))
    values, places = inside(volume)
    assert len(values) == 12 * np.prod(SHAPE)
    half_a_pixel = PIXEL_MM / 2 * (10.0 if about else 3.0 + 1.0)
    assert np.abs(values - ramp(places)).max() <= half_a_pixel + 1
    axes = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    assert np.abs(axes.T @ axes - np.eye(3)).max() < 1e-5
    assert volume.spacing[2] == pytest.approx(2.0 * np.cos(np.radians(degrees)), abs=1e-3)
    assert volume.notes == (
        f"the gantry was tilted by {abs(degrees):.0f} degrees: the slices were moved against each "
        "other by whole pixels",
    )


def test_no_value_is_made_up(tmp_path: Path) -> None:
    slices = tilted(15.0, ramp)
    volume = read_volume(write(tmp_path, slices))
    for number, sent in enumerate(slices):
        plane = volume.values[:, :, number]
        kept = plane[plane > -1024].reshape(SHAPE)
        assert np.array_equal(kept, sent.pixel_array.astype(np.int16) - 1024)


def test_the_tilt_of_thin_slices_is_seen(tmp_path: Path) -> None:
    volume = read_volume(write(tmp_path, tilted(8.0, ramp, count=60, step=0.3)))
    assert len(volume.shifts) == 60
    values, places = inside(volume)
    assert np.abs(values - ramp(places)).max() <= PIXEL_MM / 2 * 10 + 1


def test_a_straight_series_is_left_as_it_is(tmp_path: Path) -> None:
    volume = read_volume(write(tmp_path, tilted(0.0, ramp)))
    assert volume.shifts == ()
    assert volume.values.shape == (*SHAPE, 12)


def test_too_much_tilt_is_refused_with_the_angle(tmp_path: Path) -> None:
    with pytest.raises(UnfitVolumeError, match="tilted by 32 degrees") as caught:
        read_volume(write(tmp_path, tilted(32.0, ramp)))
    assert caught.value.reason == own_codes.UNFIT_GEOMETRY


def test_slices_that_lie_on_no_line_are_refused(tmp_path: Path) -> None:
    slices = tilted(0.0, ramp)
    slices[5].ImagePositionPatient = [-10, -11, slices[5].ImagePositionPatient[2]]
    with pytest.raises(UnfitVolumeError, match="shifted against each other unevenly"):
        read_volume(write(tmp_path, slices))


def test_what_is_found_lies_on_the_slices_as_they_were_sent(tmp_path: Path) -> None:
    """A bright column upright in the patient wanders over the slices of a tilted gantry."""

    def column(points: np.ndarray) -> np.ndarray:
        return np.where(np.hypot(points[..., 0], points[..., 1]) < 5, 300.0, 0.0)

    slices = tilted(20.0, column)
    volume = read_volume(write(tmp_path, slices))
    source = _source(volume)
    subject = Subject("column", LABEL, Side.NONE, volume.references[2:9])
    mask = np.moveaxis(volume.values[:, :, 2:9] == 300, -1, 0)
    marked = ((1.0, 30.0, 4.0, 5.0), volume.references[4])
    (found,) = regions_as_sent(source, [Region(subject, LABEL, mask, marked=marked)])
    assert isinstance(found, Region)
    sent = [item.pixel_array == 300 + 1024 for item in slices[2:9]]
    assert np.array_equal(found.mask, np.stack(sent))
    down, right = volume.shifts[4]
    assert found.marked is not None
    assert found.marked[0] == (1.0 - right, 30.0 - down, 4.0, 5.0)
    top = box_as_sent(source, volume.references[4], (1, 30, 4, 5))
    assert top == (1 - right, 30 - down, 4, 5)


def _source(volume: Volume, **changes: Any) -> Source:
    pictures = dict(zip((r.key for r in volume.references), volume.pictures, strict=True))
    return Source(
        volume.references,
        {},
        values=volume.values,
        affine=volume.affine,
        pictures=pictures,
        shifts=volume.shifts,
        **changes,
    )
