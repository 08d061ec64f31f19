"""Search of a radiograph for knee joints: a glimpse of the whole, tiles, then exact on a few."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
_BLOCKS: Final = 4
"""Blocks, at least, to a pixel of the reduced image."""
_PAD: Final = WINDOW // 3
_TILE: Final = 64
_TILE_STEP: Final = _TILE - WINDOW + STRIDE
_FLAT: Final = 0.015
"""Tiles with less contrast than this show nothing."""
_LEAST_COARSE: Final = 0.2
_FEW: Final = 12
"""So many tiles are looked at without a glimpse of the whole."""
_GLIMPSES: Final = (0.1, 0.01)
"""Tiles of less are left out; where the first limit leads to nothing, the second is taken.
On 226 images, knees and others, this gave what looking at all tiles gives (docs/README.md)."""
_EVERY: Final = 2
"""Windows, each way, to one that is glimpsed."""
_REACH: Final = 1
"""A tile counts as glimpsed what lies so many windows outside of it."""
_GRID: Final = 4
"""Pixels between the places whose surroundings are worked out; interpolated between them."""
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
        views = [_view(small, finder, size) for size, small in _reductions(inner, sizes)]
        for glimpse in _GLIMPSES:
            coarse = [joint for view in views for joint in _coarse(view, finder, glimpse)]
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


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """An image at one size of window, and about what each of its tiles will score."""

    framed: Tensor
    size: float
    glimpsed: Tensor


def _reductions(image: Tensor, sizes: Sequence[float]) -> Iterator[tuple[float, Tensor]]:
    """Yield sizes of window with the image reduced to each: [1, 1, h, w].

    Means over blocks come first where a block is small against antialiasing's triangle: one pass
    over the image then serves several sizes.
    """
    means = {1: image}
    for size in sizes:
        block = 2 ** int(np.log2(max(1.0, size / WINDOW / _BLOCKS)))
        if block < _BLOCKS:
            block = 1  # blocks of two pixels cost as much as they save
        if block not in means:
            means[block] = F.avg_pool2d(image, block, ceil_mode=True)
        shape = [max(8, round(n * WINDOW / size)) for n in image.shape[-2:]]
        yield size, _reduced(means[block], shape)


def _view(small: Tensor, finder: nn.Module, size: float) -> _View:
    shape = small.shape[-2:]
    high, wide = (
        _TILE + _TILE_STEP * max(0, -((_TILE - n - 2 * _PAD) // _TILE_STEP)) for n in shape
    )
    framed = F.pad(small, [_PAD, wide - shape[1] - _PAD, _PAD, high - shape[0] - _PAD])
    return _View(framed, size, _glimpsed(framed, finder))


def _coarse(view: _View, finder: nn.Module, least: float) -> list[Found]:
    """Look at the tiles whose glimpse is above `least`.

    A tile holds several windows, which share its mean, spread and convolutions; the scores are
    near what each window alone would get, at a tenth of the work.
    """
    places = torch.nonzero(view.glimpsed > least)
    if not len(places):
        return []
    tiles = view.framed[0, 0].unfold(0, _TILE, _TILE_STEP).unfold(1, _TILE, _TILE_STEP)
    with torch.inference_mode():
        out = finder(normalised_window(tiles[places[:, 0], places[:, 1], None]))
    scores = out[:, 0].sigmoid()
    factor = WINDOW / view.size
    found = []
    for n, y, x in torch.nonzero(scores > _LEAST_COARSE).tolist():
        down, right = places[n].tolist()
        dx, dy, ds = out[n, 1:, y, x].tolist()
        row = down * _TILE_STEP + y * STRIDE + WINDOW / 2 - _PAD + dy * WINDOW
        column = right * _TILE_STEP + x * STRIDE + WINDOW / 2 - _PAD + dx * WINDOW
        size = view.size * float(np.exp(ds))
        found.append(Found(row / factor, column / factor, size, float(scores[n, y, x])))
    return found


def _glimpsed(framed: Tensor, finder: nn.Module) -> Tensor:
    """Return about what each tile would score, by one look at the whole: [rows, columns].

    Tiles overlap; the whole is convolved once, and of its windows every second each way is looked
    at. Each place is normalised by the tile around it. A tile without contrast gets 0; of few
    tiles each other gets 1.
    """
    mean, spread = _around(framed)
    high, wide = ((n - _TILE) // _TILE_STEP + 1 for n in framed.shape[-2:])
    first = (_TILE // _GRID // 2, _TILE_STEP // _GRID)
    contrast = spread[0, 0, first[0] :: first[1], first[0] :: first[1]][:high, :wide]
    seen = (contrast > _FLAT).float()
    if seen.sum() <= _FEW:
        return seen

    def fine(coarse: Tensor) -> Tensor:
        size = tuple(framed.shape[-2:])
        return F.interpolate(coarse, size, mode="bilinear", align_corners=False)

    with torch.inference_mode():
        scores = finder((framed - fine(mean)) / (fine(spread) + 0.03), every=_EVERY)[:, :1]
    windows = _TILE_STEP // STRIDE
    each = F.interpolate(scores, scale_factor=float(_EVERY))
    each = each[..., : high * windows, : wide * windows]
    return seen * F.max_pool2d(each, windows + 2 * _REACH, windows, _REACH)[0, 0].sigmoid()


def _around(framed: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the tile around each place of a grid of 4 pixels."""
    half = _TILE // _GRID // 2

    def mean(of: Tensor) -> Tensor:
        coarse = F.pad(F.avg_pool2d(of, _GRID), [half, half - 1] * 2, mode="replicate")
        return F.avg_pool2d(coarse, 2 * half, 1)

    middle = mean(framed)
    return middle, (mean(framed * framed) - middle * middle).clamp_min(0).sqrt()


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
    return _reduced(F.pad(inside, pads), (WINDOW, WINDOW))


def _reduced(image: Tensor, shape: Sequence[int]) -> Tensor:
    return F.interpolate(image, tuple(shape), mode="bilinear", antialias=True, align_corners=False)


def _without_border(pixels: Array) -> Array:
    """Blank a bright frame at the very edge."""
    rows, columns = (max(1, round(n * _BORDER)) for n in pixels.shape)
    edges = np.s_[:rows], np.s_[-rows:], np.s_[:, :columns], np.s_[:, -columns:]
    out = pixels
    for edge in edges:
        if out[edge].mean() > 0.9:
            out = pixels.copy() if out is pixels else out
            out[edge] = 0
    return out
