"""The pictures of a CT series as one stack, with what the headers say of its geometry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dicom_node.model.findings import ImageReference, Region
from dicom_node.results.headers import Sources, numbers

_AXIAL = 0.9
"""Cosine between slice normal and body axis above which slices count as axial."""


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Slices of one series, feet to head where the headers tell.

    Attributes:
        pictures: [slices, H, W] uint8, as displayed.
        images: The reference of each slice.
        spacing: (slice, row, column) in mm.
        axial: The slices are axial, so that the stack can be cut sagittally.
        right_is_left: The patient's right is on the left of the slices, as is the custom.
        anterior_first: The front of the body is in the first rows, as is the custom.
    """

    pictures: npt.NDArray[np.uint8]
    images: tuple[ImageReference, ...]
    spacing: tuple[float, float, float]
    axial: bool
    right_is_left: bool
    anterior_first: bool

    def index(self, image: ImageReference) -> int | None:
        """Place of an image in the stack."""
        return next((i for i, known in enumerate(self.images) if known.key == image.key), None)

    def planes(self, region: Region) -> dict[int, npt.NDArray[np.bool_]]:
        """A region's planes, [H, W], by their place in the stack; empty ones are left out."""
        places = {known.key: index for index, known in enumerate(self.images)}
        stacked = region.mask if region.mask.ndim == 3 else region.mask[None]
        return {
            places[image.key]: plane
            for plane, image in zip(stacked, region.subject.images, strict=False)
            if image.key in places and plane.shape == self.pictures.shape[1:] and plane.any()
        }


def stack_of(
    images: Sequence[ImageReference],
    pictures: Mapping[str, npt.NDArray[np.uint8]],
    sources: Sources,
) -> Stack | None:
    """Stack the pictures that there are of one series; None when there are none of one size."""
    shown = [image for image in images if image.key in pictures]
    if not shown:
        return None
    shape = pictures[shown[0].key].shape
    shown = [image for image in shown if pictures[image.key].shape == shape]
    headers = [sources[image] for image in shown]
    orientation = numbers(headers[0], "ImageOrientationPatient", 6)
    spacing = numbers(headers[0], "PixelSpacing", 2) or (1.0, 1.0)
    if min(spacing) <= 0:
        spacing = (1.0, 1.0)
    if orientation is None:
        return _plain(shown, pictures, spacing)
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(row, column)
    places = [numbers(h, "ImagePositionPatient", 3) for h in headers]
    if any(p is None for p in places):
        return _plain(shown, pictures, spacing)
    heights = np.array([np.dot(normal, np.array(p)) for p in places])
    if normal[2] < 0:
        heights = -heights
    order = np.argsort(heights, kind="stable")
    steps = np.diff(heights[order])
    step = float(np.median(steps)) if len(steps) and np.median(steps) > 0 else 1.0
    return Stack(
        np.stack([pictures[shown[i].key] for i in order]),
        tuple(shown[i] for i in order),
        (step, spacing[0], spacing[1]),
        bool(abs(normal[2]) > _AXIAL and len(shown) > 3),
        bool(row[0] > 0),
        bool(column[1] > 0),
    )


def _plain(
    shown: Sequence[ImageReference],
    pictures: Mapping[str, npt.NDArray[np.uint8]],
    spacing: tuple[float, ...],
) -> Stack:
    stack = np.stack([pictures[image.key] for image in shown])
    return Stack(stack, tuple(shown), (1.0, spacing[0], spacing[1]), False, True, True)
