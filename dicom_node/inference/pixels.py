"""Stored pixel values out of a data set, in any transfer syntax that a decoder here knows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import structlog
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import apply_color_lut, iter_pixels, pixel_array
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

from dicom_node.errors import ImageError

_log = structlog.get_logger()

_MOST_VALUES: Final = 2**29
"""More pixel values than this in one instance are not decoded: a damaged header may claim any."""
_END_OF_IMAGE: Final = b"\xff\xd9"
_GREY_SHARE: Final = 0.999
_GREY_TOLERANCE: Final = 12
"""Grey levels of 256 by which red, green and blue of a grey pixel may differ (lossy JPEG)."""
_LUMINANCE: Final = (0.299, 0.587, 0.114)
"""ITU-R BT.601, as YBR_FULL (PS3.3 C.7.6.3.1.2)."""


def decode_frames(dataset: Dataset) -> npt.NDArray[Any]:
    """Decode every frame: [frames, H, W], integers or floats as stored.

    A colour image that shows only greys (a grey-scale original saved as RGB) gives its luminance;
    see `is_colour`.

    Raises:
        ImageError: There are no pixels, they are cut off, no decoder makes an image of them, or
            they are in colour.
    """
    what = f"instance {dataset.get('SOPInstanceUID', '')}"
    _check_description(dataset, what)
    _check_complete(dataset, what)
    colour = is_colour(dataset)
    try:
        decoded: npt.NDArray[Any] = pixel_array(dataset, raw=not colour)
        if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
            decoded = _eight_bits(apply_color_lut(decoded, dataset))
    except Exception as error:  # noqa: BLE001 - decoders raise anything on damaged pixels
        raise _not_decoded(dataset, what, error) from None
    if colour:
        decoded = _luminance(decoded, what)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    return decoded.reshape(-1, rows, columns)


def frames_of(dataset: Dataset) -> Iterator[npt.NDArray[Any]]:
    """Decode the frames one after another, each [H, W], so that memory holds one.

    Raises:
        ImageError: As `decode_frames` does, at the first frame that cannot be decoded.
    """
    if is_colour(dataset) or int(dataset.get("NumberOfFrames") or 1) < 2:
        yield from decode_frames(dataset)
        return
    what = f"instance {dataset.get('SOPInstanceUID', '')}"
    _check_description(dataset, what)
    _check_complete(dataset, what)
    frames = iter_pixels(dataset, raw=True)
    while True:
        try:
            frame = next(frames, None)
        except Exception as error:  # noqa: BLE001 - decoders raise anything on damaged pixels
            raise _not_decoded(dataset, what, error) from None
        if frame is None:
            return
        yield frame


def _not_decoded(dataset: Dataset, what: str, error: Exception) -> ImageError:
    name = dataset.file_meta.TransferSyntaxUID.name
    _log.warning("pixels_not_decoded", what=what, syntax=name, error=type(error).__name__)
    return ImageError(
        what,
        f"the pixels cannot be decoded ({name})",
        "let the sender use another transfer syntax, for example Explicit VR Little Endian",
    )


def is_colour(dataset: Dataset) -> bool:
    """Tell whether the pixels are stored in colour."""
    return (
        int(dataset.get("SamplesPerPixel") or 1) != 1
        or dataset.get("PhotometricInterpretation") == "PALETTE COLOR"
    )


def _check_description(dataset: Dataset, what: str) -> None:
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise ImageError(what, "it has no pixels", "send images only")
    try:
        shape = [int(dataset.get(name) or 0) for name in ("Rows", "Columns")]
        shape.append(max(1, int(dataset.get("NumberOfFrames") or 1)))
    except (TypeError, ValueError):
        shape = [0]
    if min(shape) < 1:
        raise ImageError(what, "it does not say how many pixels it has", "send it again")
    if np.prod(shape, dtype=np.float64) > _MOST_VALUES:
        raise ImageError(
            what, f"it has more than {_MOST_VALUES} pixels", "send it as several instances"
        )


def _check_complete(dataset: Dataset, what: str) -> None:
    """Refuse pixel data that end early: several decoders make up the rest without a word."""
    if "PixelData" not in dataset:
        return
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        try:
            expected = get_expected_length(dataset)
        except (AttributeError, TypeError, KeyError, ValueError):
            return  # what is missing, the decoder names
        have = len(dataset.PixelData)
        if have < expected:
            raise ImageError(
                what, f"it has only {have} of {expected} bytes of pixels", "send it again"
            )
        return
    if syntax not in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes):
        return
    count = max(1, int(dataset.get("NumberOfFrames") or 1))
    try:
        ended = [
            _END_OF_IMAGE in frame[-16:]
            for frame in generate_frames(dataset.PixelData, number_of_frames=count)
        ]
    except (ValueError, TypeError, IndexError):
        return  # what is wrong, the decoder finds
    if not all(ended):
        raise ImageError(what, "its compressed pixels are cut off", "send it again")


def _eight_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Bring the output of a palette, 8 or 16 bits, to 8."""
    if values.dtype.itemsize > 1:
        values = values >> 8
    return values.astype(np.uint8)


def _luminance(rgb: npt.NDArray[Any], what: str) -> npt.NDArray[np.uint8]:
    """Return [..., H, W] of [..., H, W, 3], if there is nothing but grey in it."""
    if rgb.dtype != np.uint8:
        rgb = _eight_bits(rgb)
    spread = rgb.max(axis=-1).astype(np.int16) - rgb.min(axis=-1)
    if (spread <= _GREY_TOLERANCE).mean() < _GREY_SHARE:
        raise ImageError(what, "it is a colour image", "send the grey-scale original")
    grey = rgb.astype(np.float32) @ np.asarray(_LUMINANCE, np.float32)
    return np.round(grey).astype(np.uint8)
