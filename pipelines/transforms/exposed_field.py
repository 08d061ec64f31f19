"""How far the exposed field reaches around a joint: to the collimator's border, or a crop's."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Box = tuple[int, int, int, int]

REACH: Final = 1 / 0.85
"""Sides of the joint's square: a field that is as large frames more than the joint."""
_CONSTANT: Final = 0.008
"""Two steps of 8 bits: grey values that differ by less are one value."""
_LINES: Final = 0.02
"""Of the square's side: a border is as wide, at least, unless the image ends before."""
_SQUARE: Final = 0.03
_STRIP: Final = 0.4
"""Sides to either side of the joint's centre where a row shows bone or soft tissue, if lit."""


def exposed_field(
    pixels: Array,
    row: float,
    column: float,
    size: float,
    *,
    between: tuple[int, int],
) -> Box | None:
    """Return the square field (left, top, width, height) that was exposed around a joint.

    It ends where whole lines are of one grey value, as a collimator, a shutter or the surround of
    a pasted crop leaves them, or where the image ends. None: it ends nowhere near, or is no square.

    Args:
        pixels: [H, W] in 0..1.
        row: Of the joint's centre, in pixels, as `column`.
        size: Side of the joint's square.
        between: First column, and the one after the last, that may belong to this joint.
    """
    first, end = between
    reach = round(size * REACH / 2 * (1 + _SQUARE))
    least = max(2, round(_LINES * size))
    middle, centre = round(row), round(column)
    strip = slice(
        max(first, round(column - _STRIP * size)), min(end, round(column + _STRIP * size))
    )
    if not (0 < middle < pixels.shape[0] and first < centre < end):
        return None
    rows = pixels[:, strip]
    up = _lit(rows[max(0, middle - reach - least) : middle][::-1], reach, least)
    down = _lit(rows[middle : middle + reach + least], reach, least)
    if not up or not down:
        return None
    columns = pixels[middle - up : middle + down, first:end].T
    at = centre - first
    before = _lit(columns[max(0, at - reach - least) : at][::-1], reach, least)
    after = _lit(columns[at : at + reach + least], reach, least)
    if not before or not after:
        return None
    height, width = up + down, before + after
    if abs(width - height) > _SQUARE * max(width, height) or max(width, height) >= REACH * size:
        return None
    return centre - before, middle - up, width, height


def _lit(lines: Array, reach: int, least: int) -> int | None:
    """Return how many lines, from the joint outwards, come before the border; None: there is none.

    The lines end where the image does, or `least` after the reach.
    """
    constant = (lines.max(axis=1) - lines.min(axis=1)) <= _CONSTANT
    for n in range(len(constant)):
        run = constant[n : n + least]
        if run.all():  # at the image's end a narrower border is one
            return n if n <= reach else None
    return len(lines) if len(lines) <= reach else None
