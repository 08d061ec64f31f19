"""Whether a knee crop can be read: no metal in the joint, and enough contrast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy import ndimage

from dicom_node.model import own_codes
from dicom_node.model.targets import Rejection

Array = npt.NDArray[np.float64]

_SIDE: Final = 96
_RIM: Final = 6
_SHOWN: Final = (1.0, 99.8)
"""Percentiles of the crop that count as black and white."""
_BRIGHT: Final = (0.75, 0.85, 0.93)
_THIN: Final = 2
"""Bright lines of less than twice so many pixels are bone edges, markers, catheters."""
MOST_STEP: Final = 0.34
"""Fitted on the training crops of `knee_kl` and half of the full-frame knees: 99.5 % lie below."""
LEAST_CONTRAST: Final = 0.04


class KneeGate:
    """Rejects a crop that shows metal, or nearly nothing.

    Args:
        most_step: A large smooth bright area may stand out from its surroundings by so much of
            the crop's range: bone fades into bone, a prosthesis does not.
        least_contrast: Between the 5th and the 95th percentile of the crop as it is, in 0..1.
    """

    def __init__(
        self, most_step: float = MOST_STEP, least_contrast: float = LEAST_CONTRAST
    ) -> None:
        self._most_step = most_step
        self._least_contrast = least_contrast

    def __call__(self, data: Mapping[str, Any]) -> Rejection | None:
        crop = at_scale(torch.as_tensor(data["image"]))
        low, high = np.percentile(crop, (5, 95))
        if high - low < self._least_contrast:
            return Rejection(own_codes.UNREADABLE, "the knee has hardly any contrast")
        if metal_step(crop) > self._most_step:
            return Rejection(own_codes.METAL, "metal, or something as dense, lies in the joint")
        return None


def at_scale(image: torch.Tensor) -> Array:
    """Return a crop [1, h, w] as [96, 96]."""
    plain = image.detach().cpu().as_subclass(torch.Tensor).float()
    small = F.interpolate(
        plain[None], (_SIDE, _SIDE), mode="bilinear", antialias=True, align_corners=False
    )
    found: Array = small[0, 0].double().numpy()
    return found


def metal_step(crop: Array) -> float:
    """Return how far the largest bright area stands out from what is around it, 0 to 1.

    The area's median less that of the ring two to three pixels outside of it, in shares of the
    crop's range; the largest over three limits of brightness.
    """
    low, high = np.percentile(crop, _SHOWN)
    shown = (np.clip(crop, low, high) - low) / max(high - low, 1e-3)
    shown = shown[_RIM:-_RIM, _RIM:-_RIM]
    return max(_step(shown, shown >= limit) for limit in _BRIGHT)


def _step(shown: Array, bright: npt.NDArray[np.bool_]) -> float:
    labels, count = ndimage.label(ndimage.binary_erosion(bright, iterations=_THIN))
    if not count:
        return 0.0
    core = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    area = ndimage.binary_dilation(core, iterations=_THIN) & bright
    ring = ndimage.binary_dilation(area, iterations=3) & ~ndimage.binary_dilation(area)
    return float(np.median(shown[core]) - np.median(shown[ring])) if ring.any() else 0.0
