"""Where the knee joint is in a radiograph, one or both, and which side each is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dicom_node.model import own_codes
from dicom_node.model.findings import Side
from dicom_node.model.side import stated_side
from dicom_node.model.targets import Rejection, Target
from pipelines.networks.knee_finder import STRIDE, WINDOW

Array = npt.NDArray[np.float32]

CROP_MM: Final = 96.0
"""Side of the training crops at the detector: their plateau fills 0.83 of it, magnified by 1.05."""
_SCALES: Final = (0.82, 0.9, 1.0, 1.1, 1.22)
_BORDER: Final = 0.02
_LEAST: Final = 0.3
_SECOND: Final = 0.7
"""Probability that a second joint must have: one is never made up."""


@dataclass(frozen=True, slots=True)
class Found:
    """A joint: centre (row, column) and side of the crop in source pixels, and the likeness."""

    row: float
    column: float
    size: float
    score: float


class KneeLocator:
    """Finds knee joints with a small network over a range of sizes.

    The pixel spacing narrows the range where the image states it.

    Args:
        network: Holds the finder as its module `finder`.
        least_score: Probability under which nothing is said to be a knee.
    """

    def __init__(self, network: nn.Module, least_score: float = 0.5) -> None:
        self._network = network
        self._least = least_score

    def __call__(
        self, image: torch.Tensor, attributes: Mapping[str, Any]
    ) -> Sequence[Target | Rejection]:
        pixels = np.asarray(image)[0]
        finder = self._network.get_submodule("finder")
        found = find_joints(pixels, finder, spacing=_spacing(attributes))
        found = [joint for joint in found if joint.score >= self._least]
        if not found:
            return [Rejection(own_codes.NOTHING_FOUND, "no knee joint was found in the image")]
        if len(found) == 1:
            side, source = stated_side(attributes)
            return [_target(found[0], side, source, pixels.shape)]
        # a bilateral film is read as if the patient stood before the reader
        left_first = sorted(found, key=lambda joint: joint.column)
        source = "position in the bilateral image"
        return [
            _target(joint, side, source, pixels.shape)
            for joint, side in zip(left_first, (Side.RIGHT, Side.LEFT), strict=True)
        ]


def find_joints(pixels: Array, finder: nn.Module, *, spacing: float | None = None) -> list[Found]:
    """Find one joint, or two that are side by side and of one size.

    Args:
        pixels: [H, W] in 0..1, bright bone.
        finder: `pipelines.networks.knee_finder.KneeFinder`.
        spacing: mm per pixel if known.
    """
    inner = _without_border(pixels)
    candidates = [
        joint for size in _sizes(pixels.shape, spacing) for joint in _matches(inner, finder, size)
    ]
    candidates.sort(key=lambda joint: -joint.score)
    if not candidates:
        return []
    first = _agreed(candidates[0], candidates)
    for other in candidates[1:]:
        if (
            other.score > _SECOND
            and abs(other.column - first.column) > 0.9 * first.size
            and abs(other.row - first.row) < 0.6 * first.size
            and 0.75 < other.size / first.size < 1.33
        ):
            return [first, _agreed(other, candidates)]
    return [first]


def normalised_window(windows: torch.Tensor) -> torch.Tensor:
    """Give each window mean 0 and standard deviation 1: [N, 1, 48, 48]."""
    mean = windows.mean((1, 2, 3), keepdim=True)
    spread = windows.std((1, 2, 3), keepdim=True)
    return (windows - mean) / (spread + 0.03)


def _agreed(best: Found, candidates: Sequence[Found]) -> Found:
    """Average the candidates that see the same joint: neighbouring windows and sizes do."""
    same = [
        c
        for c in candidates
        if c.score > 0.5 * best.score
        and abs(c.row - best.row) < 0.25 * best.size
        and abs(c.column - best.column) < 0.25 * best.size
        and 0.75 < c.size / best.size < 1.33
    ]
    weights = np.array([c.score for c in same])
    row, column, size = (
        float(np.average([getattr(c, name) for c in same], weights=weights))
        for name in ("row", "column", "size")
    )
    return Found(row, column, size, best.score)


def _sizes(shape: Sequence[int], spacing: float | None) -> list[float]:
    largest = 1.3 * min(shape)
    if spacing is not None:
        return [s for s in (CROP_MM / spacing * f for f in _SCALES) if s <= largest]
    smallest = 0.18 * min(shape)
    steps = int(np.log(largest / smallest) / np.log(1.16)) + 1
    return [largest / 1.16**n for n in range(steps)]


def _matches(pixels: Array, finder: nn.Module, size: float) -> list[Found]:
    factor = WINDOW / size
    small = torch.from_numpy(_resized(pixels, factor))[None, None]
    pad = WINDOW // 3
    framed = torch.nn.functional.pad(small, [pad] * 4, mode="constant")
    if min(framed.shape[-2:]) < WINDOW:
        return []
    # every window is normalised by itself, as in training
    stacked = framed.unfold(2, WINDOW, STRIDE).unfold(3, WINDOW, STRIDE)
    rows, columns = stacked.shape[2:4]
    windows = stacked.reshape(-1, 1, WINDOW, WINDOW)
    with torch.inference_mode():
        out = finder(normalised_window(windows))[:, :, 0, 0].reshape(rows, columns, 4)
    scores = out[..., 0].sigmoid().numpy()
    found = []
    for row, column in zip(*np.nonzero(scores > _LEAST), strict=True):
        dx, dy, ds = out[row, column, 1:].tolist()
        y = row * STRIDE + WINDOW / 2 - pad + dy * WINDOW
        x = column * STRIDE + WINDOW / 2 - pad + dx * WINDOW
        score = float(scores[row, column])
        found.append(Found(y / factor, x / factor, size * float(np.exp(ds)), score))
    return found


def _resized(pixels: Array, factor: float) -> Array:
    height, width = (max(8, round(n * factor)) for n in pixels.shape)
    found = torch.nn.functional.interpolate(
        torch.from_numpy(np.ascontiguousarray(pixels))[None, None],
        (height, width),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )
    shrunk: Array = found[0, 0].numpy()
    return shrunk


def _without_border(pixels: Array) -> Array:
    """Blank a bright frame and burned-in markers at the very edge."""
    out = pixels.copy()
    rows, columns = (max(1, round(n * _BORDER)) for n in pixels.shape)
    for edge in (out[:rows], out[-rows:], out[:, :columns], out[:, -columns:]):
        if edge.mean() > 0.9:
            edge[...] = 0
    return out


def _target(joint: Found, side: Side, source: str, shape: Sequence[int]) -> Target:
    names = {Side.RIGHT: "right knee", Side.LEFT: "left knee"}
    whole = joint.size > 0.85 * max(shape)
    half = joint.size / 2
    box = (
        round(joint.column - half),
        round(joint.row - half),
        round(joint.size),
        round(joint.size),
    )
    return Target(
        name=names.get(side, "knee, side unknown"),
        side=side,
        side_source=source,
        box=None if whole else box,
        # the network was trained on right knees, and on left ones mirrored
        mirror=side is Side.LEFT,
        extras={"score": joint.score},
    )


def _spacing(attributes: Mapping[str, Any]) -> float | None:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        value = attributes.get(keyword)
        if isinstance(value, list) and len(value) == 2:
            first = value[0]
            if isinstance(first, int | float) and 0.02 < first < 2:
                return float(first)
    return None
