"""How well a knee crop was exposed: what is burnt out, drowned in noise, or blurred.

All three measures are ratios, so that a washed-out film with little contrast is no worse than
another: what a person could still window is left to the network.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy import ndimage

Array = npt.NDArray[np.float64]

_RANGE: Final = (1.0, 99.5)
"""Percentiles of the crop that count as black and white."""
_JOINT: Final = ((0.27, 0.85), (0.13, 0.87))
"""Rows and columns, in sides of the crop, that show the ends of both bones."""
_FLAT: Final = 0.015
"""What lies so near to the brightest or the darkest value, in shares of the range, is clipped."""
_SIDE: Final = 80
"""Sharpness is looked at in so many pixels, so that it says the same of every pipeline's crop."""
_FINE: Final = 0.6
_COARSE: Final = 1.8
"""Standard deviations of the Gaussians, in pixels of that grid (1.2 mm), between which an edge of a
sharp film falls off and one of a blurred film does not."""
_LAPLACIAN: Final = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])


def clipped(crop: Array) -> float:
    """Return the share of the joint that is all white or all black, the larger of both.

    Args:
        crop: [H, W], any scale.
    """
    joint, spread = _joint(crop), _spread(crop)
    white = (joint >= crop.max() - _FLAT * spread).mean()
    black = (joint <= crop.min() + _FLAT * spread).mean()
    return float(max(white, black))


def noise(crop: Array) -> float:
    """Return the standard deviation of the pixels' noise, in shares of the crop's range.

    Immerkaer, Comput Vis Image Underst 1996;64:300-302: what is left of the image by a mask that
    takes out planes and ramps.
    """
    left = np.abs(ndimage.convolve(crop, _LAPLACIAN))
    return float(np.sqrt(np.pi / 2) / 6 * _joint(left).mean()) / _spread(crop)


def sharpness(crop: Array) -> float:
    """Return how much steeper the edges are in the fine than in the coarse: 1, and all is blurred.

    Both are the 97th percentile of the gradient, under Gaussians of 0.7 and 2.2 mm.
    """
    plain = torch.from_numpy(crop)[None, None]
    small = F.interpolate(
        plain, (_SIDE, _SIDE), mode="bilinear", antialias=True, align_corners=False
    )[0, 0].numpy()
    fine, coarse = (
        np.percentile(_joint(ndimage.gaussian_gradient_magnitude(small, sigma)), 97)
        for sigma in (_FINE, _COARSE)
    )
    return float(fine / max(coarse, 1e-6))


def _spread(crop: Array) -> float:
    low, high = np.percentile(crop, _RANGE)
    return max(float(high - low), 1e-3)


def _joint(crop: Array) -> Array:
    (top, bottom), (left, right) = _JOINT
    height, width = crop.shape
    return crop[
        round(top * height) : round(bottom * height), round(left * width) : round(right * width)
    ]
