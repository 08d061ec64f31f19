"""Changes made to training images: pose, exposure, noise; and targets that know the order."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def augmented(images: Tensor, size: int, how: Mapping[str, float]) -> Tensor:
    """Turn, shift, scale, mirror and re-expose a batch.

    Args:
        images: [N, 1, H, W] in 0..1.
        size: Side of the result.
        how: `degrees`, `scale`, `shift` (of the side), `flip` and `negative` (probabilities),
            `gamma` (of the logarithm), `washout` (largest loss of contrast at one end of the
            scale), `noise` (largest standard deviation), `blur` (largest standard deviation of a
            Gaussian, pixels of `images`; absent: none).

    Returns:
        [N, 1, size, size] in 0..1.
    """
    count = len(images)
    if how.get("blur"):
        images = _blurred(images, torch.rand(count) * how["blur"])
    angle = _uniform(count) * math.radians(how["degrees"])
    scale = 1 + _uniform(count) * how["scale"]
    flip = torch.where(torch.rand(count) < how["flip"], -1.0, 1.0)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    across, down = _uniform(count) * how["shift"] * 2, _uniform(count) * how["shift"] * 2
    theta = torch.stack(
        [torch.stack([cos * flip, -sin, across], 1), torch.stack([sin * flip, cos, down], 1)], 1
    )
    grid = F.affine_grid(theta, [count, 1, size, size], align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)

    def of(values: Tensor) -> Tensor:
        return values[:, None, None, None]

    low, high = moved.amin((1, 2, 3), keepdim=True), moved.amax((1, 2, 3), keepdim=True)
    shown = ((moved - low) / (high - low).clamp_min(1 / 255)).clamp(0, 1)
    shown = shown ** torch.exp(of(_uniform(count)) * how["gamma"])
    # washed out: the bright end is squeezed together, as in an overexposed film
    squeeze = of(torch.rand(count) * how["washout"])
    shown = torch.where(of(torch.rand(count)) < 0.3, 1 - (1 - shown) ** (1 + 2 * squeeze), shown)
    negative = of(torch.rand(count)) < how["negative"]
    shown = torch.where(negative, 1 - shown, shown)
    shown = shown + of(torch.rand(count)) * how["noise"] * torch.randn_like(shown)
    return shown.clamp(0, 1)


def ordinal_targets(grades: Tensor, classes: int, spread: float) -> Tensor:
    """Return soft targets [N, classes]: a Gaussian over the grades around the given one.

    An error by one grade then costs less than one by two: label smoothing that knows the order
    (Diaz and Marathe, CVPR 2019, doi 10.1109/CVPR.2019.00487).
    """
    distance = torch.arange(classes)[None] - grades[:, None]
    weights = torch.exp(-(distance.float() ** 2) / (2 * spread**2))
    return weights / weights.sum(1, keepdim=True)


def _blurred(images: Tensor, deviations: Tensor) -> Tensor:
    """Blur each of [N, 1, H, W] by its own Gaussian, as films of other resolutions are."""
    offsets = torch.arange(-3, 4)
    taps = torch.exp(-(offsets**2) / (2 * deviations.clamp_min(0.1)[:, None] ** 2))
    taps = taps / taps.sum(1, keepdim=True)
    rows = F.pad(images.transpose(0, 1), (3, 3, 3, 3), mode="replicate")
    columns = F.conv2d(rows, taps[:, None, :, None], groups=len(images))
    return F.conv2d(columns, taps[:, None, None, :], groups=len(images)).transpose(0, 1)


def _uniform(count: int) -> Tensor:
    return torch.rand(count) * 2 - 1
