"""A radiograph as it arrives, made into what a network and a person look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.pixels.utils import get_expected_length

from dicom_node.errors import ImageError
from dicom_node.model.findings import ImageReference

_LEAST_SIDE: Final = 16
_CLIPPED: Final = 0.35
"""A window that would clip more of the image than this at either end is not believed."""


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
        return np.round(self.pixels * 255).astype(np.uint8)


def read_radiograph(dataset: Dataset) -> list[Radiograph]:
    """Read an image; a multi-frame instance gives one radiograph a frame.

    The order is that of the standard's display pipeline (PS3.4 annex N): Modality LUT, VOI LUT
    (the first of several), then inversion for MONOCHROME1 or Presentation LUT Shape INVERSE.

    Raises:
        ImageError: There are no pixels, they cannot be decoded, or they show nothing.
    """
    reference = ImageReference(
        str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), str(dataset.SeriesInstanceUID)
    )
    stored = _decode(dataset)
    frames = stored[None] if stored.ndim == 2 else stored
    spacing = spacing_of(dataset)
    several = len(frames) > 1
    return [
        Radiograph(
            ImageReference(
                reference.sop_class_uid,
                reference.sop_instance_uid,
                reference.series_instance_uid,
                number if several else None,
            ),
            _display(frame, dataset),
            spacing,
        )
        for number, frame in enumerate(frames, start=1)
    ]


def spacing_of(dataset: Dataset) -> tuple[float, float] | None:
    """Return (row, column) spacing in mm: Pixel Spacing, else Imager Pixel Spacing, else None."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        try:
            values = [float(value) for value in dataset.get(keyword) or ()]
        except (TypeError, ValueError):
            continue
        if len(values) == 2 and all(0.001 < value < 10 for value in values):
            return values[0], values[1]
    return None


def decode_pixels(dataset: Dataset) -> npt.NDArray[np.generic]:
    """Decode the stored values of a grey-scale image: [H, W], or [frames, H, W].

    Raises:
        ImageError: There are no pixels, or no decoder makes an image of them.
    """
    return _decode(dataset)


def _decode(dataset: Dataset) -> npt.NDArray[np.generic]:
    uid = str(dataset.get("SOPInstanceUID", ""))
    if not any(keyword in dataset for keyword in ("PixelData", "FloatPixelData")):
        raise ImageError(f"instance {uid}", "it has no pixels", "send images only")
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise ImageError(f"instance {uid}", "it is a colour image", "send the grey-scale original")
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated and "PixelData" in dataset:
        expected, have = get_expected_length(dataset), len(dataset.PixelData)
        if have < expected:
            raise ImageError(
                f"instance {uid}", f"it has {have} of {expected} bytes of pixels", "send it again"
            )
    try:
        return pixel_array(dataset, raw=True)
    except Exception as error:  # noqa: BLE001 - decoders raise anything on damaged pixels
        raise ImageError(
            f"instance {uid}",
            f"its pixels cannot be decoded ({syntax.name}): {type(error).__name__}",
            "send it in another transfer syntax, for example uncompressed",
        ) from None


def _display(frame: npt.NDArray[np.generic], dataset: Dataset) -> npt.NDArray[np.float32]:
    uid = str(dataset.get("SOPInstanceUID", ""))
    if min(frame.shape) < _LEAST_SIDE:
        raise ImageError(f"instance {uid}", f"it is only {frame.shape} pixels", "send a full image")
    values = np.asarray(_modality(frame, dataset), np.float64)
    valid = _valid(frame, dataset) & np.isfinite(values)
    if not valid.any() or values[valid].min() == values[valid].max():
        raise ImageError(f"instance {uid}", "every pixel has the same value", "check the exposure")
    shown = _window(values, valid, dataset)
    inverse = (
        dataset.get("PhotometricInterpretation") == "MONOCHROME1"
        # for MONOCHROME1 the shape INVERSE only says again what the interpretation says
        or dataset.get("PresentationLUTShape") == "INVERSE"
    )
    if inverse:
        shown = 1 - shown
    shown[~valid] = 0
    return shown.astype(np.float32)


def _modality(frame: npt.NDArray[np.generic], dataset: Dataset) -> npt.NDArray[np.generic]:
    try:
        return np.asarray(apply_modality_lut(frame, dataset))
    except (ValueError, TypeError, IndexError, AttributeError, NotImplementedError):
        # a broken LUT is left out: the window below is then taken from the image itself
        return frame


def _valid(frame: npt.NDArray[np.generic], dataset: Dataset) -> npt.NDArray[np.bool_]:
    padding = dataset.get("PixelPaddingValue")
    if not isinstance(padding, int):
        return np.ones(frame.shape, bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((padding, limit if isinstance(limit, int) else padding))
    stored = frame.astype(np.int64)
    valid = (stored < low) | (stored > high)
    # some senders declare a value that the image itself is made of
    return valid if valid.mean() > 0.05 else np.ones(frame.shape, bool)


def _window(
    values: npt.NDArray[np.float64], valid: npt.NDArray[np.bool_], dataset: Dataset
) -> npt.NDArray[np.float64]:
    """Apply the image's own VOI LUT, unless it would show next to nothing of the image."""
    inside = values[valid]
    low, high = np.percentile(inside, (0.5, 99.5))
    if "VOILUTSequence" in dataset or "WindowWidth" in dataset:
        try:
            shown = np.asarray(apply_voi_lut(values, dataset), np.float64)
        except (ValueError, TypeError, IndexError, AttributeError, NotImplementedError):
            shown = values
        if shown is not values:
            scaled = _unit(shown, *_voi_range(shown[valid], dataset))
            seen = scaled[valid]
            if (seen <= 0).mean() < _CLIPPED + (inside <= low).mean() and (
                seen >= 1
            ).mean() < _CLIPPED:
                return scaled
    if high <= low:
        low, high = float(inside.min()), float(inside.max())
    return _unit(values, float(low), float(high))


def _voi_range(shown: npt.NDArray[np.float64], dataset: Dataset) -> tuple[float, float]:
    if "VOILUTSequence" in dataset:
        return float(shown.min()), float(shown.max())
    bits = int(dataset.get("BitsStored") or 16)
    # pydicom scales a window to the range of the stored values after the Modality LUT
    slope = float(dataset.get("RescaleSlope") or 1)
    intercept = float(dataset.get("RescaleIntercept") or 0)
    least, most = (0, 2**bits - 1)
    if int(dataset.get("PixelRepresentation") or 0):
        least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    ends = sorted((least * slope + intercept, most * slope + intercept))
    return ends[0], ends[1]


def _unit(values: npt.NDArray[np.float64], low: float, high: float) -> npt.NDArray[np.float64]:
    return np.clip((values - low) / max(high - low, 1e-12), 0, 1)
