"""Search of a radiograph for knee joints: coarse over tiles and sizes, then exact on a few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.networks.knee_finder import STRIDE, WINDOW

Array = npt.NDArray[np.float32]

CROP_MM: Final = 96.0
"""Side of the training crops at the detector: their plateau fills 0.83 of it, magnified by 1.05."""
_SCALES: Final = (0.8, 1.0, 1.25)
_STEP: Final = 1.25
"""Ratio of neighbouring sizes when the spacing is unknown; the finder bridges 0.85 to 1.17."""
_SMALLEST, _LARGEST = 0.2, 1.3
"""Of the image's shorter side."""
_BORDER: Final = 0.02
_TILE: Final = 64
_TILE_STEP: Final = _TILE - WINDOW + STRIDE
_FLAT: Final = 0.015
"""Tiles with less contrast than this show nothing."""
_LEAST_COARSE: Final = 0.2
_CANDIDATES: Final = 12
_REFINEMENTS: Final = 2
LEAST: Final = 0.97
"""Score of a joint: those of real and phantom knees lie above 0.99, of other things below 0.96."""


@dataclass(frozen=True, slots=True)
class Found:
    """A joint: centre (row, column) and side of the crop in source pixels, and the likeness."""

    row: float
    column: float
    size: float
    score: float


def find_joints(
    pixels: Array, finder: nn.Module, *, spacing: float | None = None, least: float = LEAST
) -> list[Found]:
    """Find one joint, or two that are side by side and of one size.

    Args:
        pixels: [H, W] in 0..1, bright bone.
        finder: `pipelines.networks.knee_finder.KneeFinder`.
        spacing: mm per pixel if known; where it leads to nothing, every size is searched.
        least: Score under which nothing is said to be a joint.
    """
    device = next(finder.parameters()).device
    inner = torch.from_numpy(_without_border(pixels))[None, None].to(device)
    for sizes in _size_lists(pixels.shape, spacing):
        coarse = [joint for size in sizes for joint in _coarse(inner, finder, size)]
        found = _refined(inner, finder, _apart(coarse)[:_CANDIDATES])
        joints = [joint for joint in _apart(found) if joint.score >= least]
        if joints:
            return _one_or_two(joints)
    return []


def normalised_window(windows: Tensor) -> Tensor:
    """Give each window mean 0 and standard deviation 1: [N, 1, h, w]."""
    mean = windows.mean((1, 2, 3), keepdim=True)
    spread = windows.std((1, 2, 3), keepdim=True)
    return (windows - mean) / (spread + 0.03)


def _one_or_two(joints: Sequence[Found]) -> list[Found]:
    first = joints[0]
    for other in joints[1:]:
        if (
            abs(other.column - first.column) > 0.9 * first.size
            and abs(other.row - first.row) < 0.6 * first.size
            and 0.75 < other.size / first.size < 1.33
        ):
            return [first, other]
    return [first]


def _apart(joints: Sequence[Found]) -> list[Found]:
    """Keep the best of those that see the same place, best first."""
    kept: list[Found] = []
    for joint in sorted(joints, key=lambda j: -j.score):
        if all(
            max(abs(joint.row - k.row), abs(joint.column - k.column)) > 0.25 * k.size
            or not 0.8 < joint.size / k.size < 1.25
            for k in kept
        ):
            kept.append(joint)
    return kept


def _size_lists(shape: Sequence[int], spacing: float | None) -> list[list[float]]:
    short = min(shape)
    steps = int(np.log(_LARGEST / _SMALLEST) / np.log(_STEP)) + 1
    every = [_LARGEST * short / _STEP**n for n in range(steps)]
    if spacing is None:
        return [every]
    near = [CROP_MM / spacing * f for f in _SCALES]
    return [[s for s in near if s <= _LARGEST * short], every]


def _coarse(image: Tensor, finder: nn.Module, size: float) -> list[Found]:
    """Look everywhere at one size.

    A tile holds several windows, which share its mean, spread and convolutions; the scores are
    near what each window alone would get, at a tenth of the work.
    """
    factor = WINDOW / size
    shape = [max(8, round(n * factor)) for n in image.shape[-2:]]
    small = F.interpolate(image, shape, mode="bilinear", antialias=True, align_corners=False)
    pad = WINDOW // 3
    high, wide = (
        _TILE + _TILE_STEP * max(0, -((_TILE - n - 2 * pad) // _TILE_STEP)) for n in shape
    )
    framed = F.pad(small, [pad, wide - shape[1] - pad, pad, high - shape[0] - pad])
    tiles = framed.unfold(2, _TILE, _TILE_STEP).unfold(3, _TILE, _TILE_STEP)
    columns = tiles.shape[3]
    flat = tiles.reshape(-1, 1, _TILE, _TILE)
    kept = torch.nonzero(flat.std((1, 2, 3)) > _FLAT)[:, 0]
    if not len(kept):
        return []
    with torch.inference_mode():
        out = finder(normalised_window(flat[kept]))
    scores = out[:, 0].sigmoid()
    found = []
    for n, y, x in torch.nonzero(scores > _LEAST_COARSE).tolist():
        down, right = divmod(int(kept[n]), columns)
        dx, dy, ds = out[n, 1:, y, x].tolist()
        row = down * _TILE_STEP + y * STRIDE + WINDOW / 2 - pad + dy * WINDOW
        column = right * _TILE_STEP + x * STRIDE + WINDOW / 2 - pad + dx * WINDOW
        found.append(
            Found(row / factor, column / factor, size * float(np.exp(ds)), float(scores[n, y, x]))
        )
    return found


def _refined(image: Tensor, finder: nn.Module, joints: Sequence[Found]) -> list[Found]:
    """Look again with a window exactly around each, as in training."""
    for _ in range(_REFINEMENTS):
        if not joints:
            return []
        windows = torch.cat([_window(image, joint) for joint in joints])
        with torch.inference_mode():
            out = finder(normalised_window(windows))[:, :, 0, 0]
        scores = out[:, 0].sigmoid().tolist()
        joints = [
            Found(
                joint.row + dy * joint.size,
                joint.column + dx * joint.size,
                joint.size * float(np.exp(np.clip(ds, -0.3, 0.3))),
                score,
            )
            for joint, (dx, dy, ds), score in zip(joints, out[:, 1:].tolist(), scores, strict=True)
            if score >= _LEAST_COARSE
        ]
    return list(joints)


def _window(image: Tensor, joint: Found) -> Tensor:
    """Cut the window of a joint, dark outside the image: [1, 1, 48, 48]."""
    side = max(2, round(joint.size))
    top, left = round(joint.row - joint.size / 2), round(joint.column - joint.size / 2)
    height, width = image.shape[-2:]
    inside = image[..., max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)]
    pads = [max(0, -left), max(0, left + side - width), max(0, -top), max(0, top + side - height)]
    framed = F.pad(inside, pads)
    return F.interpolate(
        framed, (WINDOW, WINDOW), mode="bilinear", antialias=True, align_corners=False
    )


def _without_border(pixels: Array) -> Array:
    """Blank a bright frame at the very edge."""
    out = pixels.copy()
    rows, columns = (max(1, round(n * _BORDER)) for n in pixels.shape)
    for edge in (out[:rows], out[-rows:], out[:, :columns], out[:, -columns:]):
        if edge.mean() > 0.9:
            edge[...] = 0
    return out
