"""Search of a radiograph for the letter that names its side: L or R, of lead or burned in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn

from dicom_node.errors import PipelineError
from pipelines.networks.side_marker import (
    READ_HEIGHT,
    READ_WINDOW,
    SPOT_HEIGHT,
    SPOT_STRIDE,
    SPOT_WINDOW,
    SideMarkerNetwork,
    normalised,
)

Array = npt.NDArray[np.float32]

VERSION: Final = "0.1.0"
WEIGHTS: Final = Path(__file__).parents[2] / "weights" / "side_marker" / f"{VERSION}.safetensors"
SHA256: Final = "75651f7157c1bf172b9ebf7bb4d8d8c367b37ea72f8f3ea532f63063dbd0f5ee"

_LONGEST: Final = 800
"""Pixels of the longer side at the first look: the smallest letter seen is 1.4 % of it."""
_STEP: Final = 1.6
_LOOKS: Final = 4
_LEAST_SPOT: Final = 0.8
"""Likeness of a letter to the spotter under which it is not read."""
_CANDIDATES: Final = 16
LEAST: Final = 0.95
"""Probability under which a letter is not said to be read."""
_JITTER: Final = ((0.0, 0.0, 1.0), (0.0, 0.0, 0.87), (0.0, 0.0, 1.15), (0.06, 0.06, 1.0))
"""Each letter is read so often: right and down by so many heights, at so many times its size."""
_WORTH: Final = 0.2
"""Probability at the first reading under which there is no second."""
_LETTERS: Final = "LR"


@dataclass(frozen=True, slots=True)
class Marker:
    """A letter: "L" or "R", centre (row, column) and height in source pixels, its probability."""

    letter: str
    row: float
    column: float
    height: float
    score: float


@dataclass(frozen=True, slots=True)
class Spot:
    """What may be a letter: centre (row, column) and height in source pixels, and the likeness."""

    row: float
    column: float
    height: float
    score: float


class SideMarkers:
    """The reader with its weights: a part of a locator, from pixels [H, W] in 0..1 to markers.

    Args:
        file: The weights, as `pipelines.side_markers.train` writes them.
        sha256: Of the file.
        least: Probability under which nothing is said to be a marker.

    Raises:
        PipelineError: The weights cannot be read, or are others.
    """

    def __init__(self, file: Path = WEIGHTS, sha256: str = SHA256, least: float = LEAST) -> None:
        what = f"weights of the side markers, {file}"
        fix = "restore the file from the release; its hash stands in weights/manifest.yaml"
        try:
            content = Path(file).read_bytes()
        except OSError as error:
            raise PipelineError(what, error.strerror or "it cannot be read", fix) from None
        if hashlib.sha256(content).hexdigest() != sha256:
            raise PipelineError(what, "they are not the ones of the manifest", fix)
        known = Path(file) == WEIGHTS
        self.name = f"side_marker {VERSION if known else sha256[:8]}"
        """What has read the letters, for the results."""
        self._network = SideMarkerNetwork()
        self._network.load_state_dict({name: t.float() for name, t in load(content).items()})
        self._network.eval()
        self._least = least

    def __call__(self, pixels: Array) -> list[Marker]:
        """Return the letters L and R that stand alone in an image, the surest first."""
        return find_markers(pixels, self._network, self._least)


def find_markers(pixels: Array, network: SideMarkerNetwork, least: float = LEAST) -> list[Marker]:
    """Find the letters L and R that stand alone and upright.

    Words, other letters, and letters that are mirrored or lie on their side are none.

    Args:
        pixels: [H, W] in 0..1.
        network: In evaluation mode.
        least: Probability under which nothing is said to be a marker.
    """
    image = torch.tensor(pixels, dtype=torch.float32)[None, None]
    spots = spots_of(image, network)
    if not spots:
        return []
    likely = _read(image, spots, network.readers[:1], _JITTER[:1])
    spots = [spot for spot, scores in zip(spots, likely, strict=True) if max(scores) > _WORTH]
    read = _read(image, spots, network.readers, _JITTER) if spots else []
    markers = [
        Marker(letter, spot.row, spot.column, spot.height, score)
        for spot, scores in zip(spots, read, strict=True)
        for letter, score in zip(_LETTERS, scores, strict=True)
        if score >= least
    ]
    return sorted(markers, key=lambda marker: -marker.score)


def _read(
    image: Tensor,
    spots: Sequence[Spot],
    readers: Iterable[nn.Module],
    jitter: Sequence[tuple[float, float, float]],
) -> list[list[float]]:
    """Return the probabilities of L and R of each, the mean of the readers'."""
    windows = torch.cat([reading_window(image, spot, *each) for spot in spots for each in jitter])
    seen = normalised(windows, READ_WINDOW)
    with torch.inference_mode():
        each = [
            reader(seen).reshape(len(spots), len(jitter), 3).mean(1).softmax(1)
            for reader in readers
        ]
    found: list[list[float]] = torch.stack(each).mean(0)[:, 1:].tolist()
    return found


def spots_of(image: Tensor, network: SideMarkerNetwork, least: float = _LEAST_SPOT) -> list[Spot]:
    """Return what may be letters in an image, [1, 1, H, W] in 0..1, best first."""
    longest = max(image.shape[-2:])
    found: list[Spot] = []
    for look in range(_LOOKS):
        factor = min(1.0, _LONGEST / longest) / _STEP**look
        shape = [max(1, round(n * factor)) for n in image.shape[-2:]]
        small = _reduced(image, shape)
        pad = SPOT_WINDOW // 2
        framed = F.pad(normalised(small, SPOT_WINDOW), [pad] * 4)
        with torch.inference_mode():
            out = network.spotter(framed)[0]
        score = out[0].sigmoid()
        best = F.max_pool2d(score[None], 3, 1, 1)[0]
        for y, x in torch.nonzero((score == best) & (score > least)).tolist():
            right, down, size = out[1:, y, x].tolist()
            found.append(
                Spot(
                    (y * SPOT_STRIDE + SPOT_WINDOW / 2 - pad + down) / factor,
                    (x * SPOT_STRIDE + SPOT_WINDOW / 2 - pad + right) / factor,
                    SPOT_HEIGHT * float(np.exp(np.clip(size, -0.6, 0.6))) / factor,
                    float(score[y, x]),
                )
            )
    return _apart(found)[:_CANDIDATES]


def _apart(spots: Sequence[Spot]) -> list[Spot]:
    """Keep the best of those that see the same letter, best first."""
    kept: list[Spot] = []
    for spot in sorted(spots, key=lambda s: -s.score):
        if all(
            max(abs(spot.row - k.row), abs(spot.column - k.column)) > 0.5 * k.height for k in kept
        ):
            kept.append(spot)
    return kept


def reading_window(image: Tensor, spot: Spot, right: float, down: float, size: float) -> Tensor:
    """Cut the reader's window around a letter, its own edge repeated: [1, 1, 40, 40]."""
    side = max(4, round(spot.height * size * READ_WINDOW / READ_HEIGHT))
    top = round(spot.row + down * spot.height - side / 2)
    left = round(spot.column + right * spot.height - side / 2)
    height, width = image.shape[-2:]
    rows = torch.arange(top, top + side).clamp(0, height - 1)
    columns = torch.arange(left, left + side).clamp(0, width - 1)
    return _reduced(image[..., rows[:, None], columns], (READ_WINDOW, READ_WINDOW))


def _reduced(image: Tensor, shape: Sequence[int]) -> Tensor:
    return F.interpolate(image, tuple(shape), mode="bilinear", antialias=True, align_corners=False)
