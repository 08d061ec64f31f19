"""A radiograph as it arrives, made into what a network and a person look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_node.errors import ImageError
from dicom_node.inference.display import NothingShownError, display
from dicom_node.inference.pixels import decode_frames, is_colour
from dicom_node.model.findings import ImageReference

_LEAST_SIDE: Final = 16
_SPACINGS: Final = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


@dataclass(frozen=True, slots=True, eq=False)
class Radiograph:
    """One image (or one frame), ready for a pipeline.

    Attributes:
        pixels: float32 [H, W] in 0..1, bright bone, Modality and VOI LUT applied.
        spacing: (row, column) in mm at the detector or calibrated; None when not known.
    """

    reference: ImageReference
    pixels: npt.NDArray[np.float32]
    spacing: tuple[float, float] | None

    @property
    def picture(self) -> npt.NDArray[np.uint8]:
        """The image as shown: uint8 [H, W]."""
        return to_picture(self.pixels)


def to_picture(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Bring 0..1 to uint8."""
    scaled = pixels * np.float32(255)
    np.rint(scaled, out=scaled)
    return scaled.astype(np.uint8)


def read_radiograph(dataset: Dataset) -> list[Radiograph]:
    """Read an image; a multi-frame instance gives one radiograph a frame.

    Raises:
        ImageError: There are no pixels, they cannot be decoded, or they show nothing.
    """
    what = f"instance {dataset.get('SOPInstanceUID', '')}"
    frames = decode_frames(dataset)
    if min(frames.shape[1:]) < _LEAST_SIDE:
        raise ImageError(
            what,
            f"the image is only {frames.shape[2]} by {frames.shape[1]} pixels",
            "send the full image",
        )
    rules = Dataset() if is_colour(dataset) else dataset  # the LUTs are those of grey images
    spacing = spacing_of(dataset)
    several = len(frames) > 1
    return [
        Radiograph(
            _reference(dataset, number if several else None),
            _display(frame, rules, what),
            spacing,
        )
        for number, frame in enumerate(frames, start=1)
    ]


def spacing_of(dataset: Dataset) -> tuple[float, float] | None:
    """Return (row, column) spacing in mm: Pixel Spacing, else Imager Pixel Spacing, else None."""
    for keyword in _SPACINGS:
        try:
            values = [float(value) for value in dataset.get(keyword) or ()]
        except (TypeError, ValueError):
            continue
        if len(values) == 2 and all(0.001 < value < 10 for value in values):
            return values[0], values[1]
    return None


def _display(frame: npt.NDArray[Any], rules: Dataset, what: str) -> npt.NDArray[np.float32]:
    try:
        return display(frame, rules)
    except NothingShownError:
        raise ImageError(
            what, "every pixel has the same value", "check the exposure and the export"
        ) from None


def _reference(dataset: Dataset, frame: int | None) -> ImageReference:
    return ImageReference(
        str(dataset.get("SOPClassUID", "")),
        str(dataset.get("SOPInstanceUID", "")),
        str(dataset.get("SeriesInstanceUID", "")),
        frame,
    )
