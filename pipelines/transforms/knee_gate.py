"""Whether a knee crop can be read: no metal in the joint, and an exposure that shows it."""

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
from pipelines.transforms.knee_exposure import clipped, noise, sharpness

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
MOST_CLIPPED: Final = 0.5
MOST_NOISE: Final = 0.06
LEAST_SHARPNESS: Final = 1.06
"""Of a tenth of the training crops and half of the full-frame knees, 99.5 % keep within these."""

_REJECTIONS: Final = {
    "contrast": Rejection(own_codes.UNREADABLE, "the knee has hardly any contrast"),
    "clipped": Rejection(
        own_codes.UNREADABLE,
        "half of the joint or more is all white or all black: burnt out, or hidden by metal",
    ),
    "metal": Rejection(own_codes.METAL, "metal, or something as dense, lies in the joint"),
    "noise": Rejection(own_codes.UNREADABLE, "the knee is drowned in noise"),
    "blur": Rejection(own_codes.UNREADABLE, "the knee is blurred: no edge in it is sharp"),
}


class KneeGate:
    """Rejects a crop that shows metal, or that was not exposed so that it can be read.

    Args:
        most_step: A large smooth bright area may stand out from its surroundings by so much of
            the crop's range: bone fades into bone, a prosthesis does not.
        least_contrast: Between the 5th and the 95th percentile of the crop as it is, in 0..1.
        most_clipped: Share of the joint that may be all white, or all black.
        most_noise: Standard deviation of the noise, in shares of the crop's range.
        least_sharpness: Of edges in the fine, in units of those in the coarse.
    """

    def __init__(
        self,
        most_step: float = MOST_STEP,
        least_contrast: float = LEAST_CONTRAST,
        most_clipped: float = MOST_CLIPPED,
        most_noise: float = MOST_NOISE,
        least_sharpness: float = LEAST_SHARPNESS,
    ) -> None:
        self._most_step = most_step
        self._least_contrast = least_contrast
        self._most_clipped = most_clipped
        self._most_noise = most_noise
        self._least_sharpness = least_sharpness

    def __call__(self, data: Mapping[str, Any]) -> Rejection | None:
        for name, value in self.measured(torch.as_tensor(data["image"])).items():
            if value > 1:
                return _REJECTIONS[name]
        return None

    def measured(self, image: torch.Tensor) -> dict[str, float]:
        """Return what is looked at in a crop [1, h, w], each in units of its limit.

        Above 1 the crop is refused, for the first of these; behind hardly any contrast nothing
        else is looked at.
        """
        small = at_scale(image)
        low, high = np.percentile(small, (5, 95))
        contrast = self._least_contrast / max(high - low, 1e-6)
        if contrast > 1:
            return {"contrast": contrast}
        crop: Array = image.detach().cpu().as_subclass(torch.Tensor)[0].double().numpy()
        return {
            "contrast": contrast,
            "clipped": clipped(crop) / self._most_clipped,
            "metal": metal_step(small) / self._most_step,
            "noise": noise(crop) / self._most_noise,
            "blur": self._least_sharpness / max(sharpness(crop), 1e-6),
        }


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
