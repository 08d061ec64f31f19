"""Whether slices lie at even distances, and what is wrong where they do not. No pixels here."""

from __future__ import annotations

from itertools import groupby
from typing import Final

import numpy as np
import numpy.typing as npt

_UNEVEN: Final = 0.1
"""Share of the spacing by which the distance of two slices may differ, beside …"""
_ROUNDING_MM: Final = 0.05
"""… the rounding of positions in headers."""
_RUN: Final = 3
"""So many equal distances in a row are a part with a spacing of its own, not single gaps."""


def unevenness(distances: npt.NDArray[np.float64]) -> tuple[str, str] | None:
    """Say why slices at these distances (mm, feet to head) are not one even stack, and the fix.

    None when they are. Slices are not made up where some are missing, nor is a stack of two
    spacings resampled: the finer part would be averaged, the coarser one invented.
    """
    step = float(np.median(distances))
    if _even(distances, step).all():
        return None
    spacings = _spacings(distances)
    if len(spacings) > 1:
        told = " and ".join(f"{count} of {spacing:.2f} mm" for spacing, count in spacings.items())
        return (
            f"the series mixes slice spacings (distances: {told})",
            "send each spacing as a series of its own",
        )
    uneven = distances[~_even(distances, step)]
    times = np.round(uneven / step)
    if ((times >= 2) & _even(uneven / times.clip(1), step)).all():
        return (
            f"slices are missing (about {int((times - 1).sum())}): {len(uneven)} of "
            f"{len(distances)} distances are a multiple of {step:.2f} mm",
            "send the whole series",
        )
    return (
        f"the slices are spaced unevenly: {len(uneven)} of {len(distances)} distances differ from "
        f"{step:.2f} mm",
        "send the whole series",
    )


def _even(distances: npt.NDArray[np.float64], step: float) -> npt.NDArray[np.bool_]:
    even: npt.NDArray[np.bool_] = np.abs(distances - step) <= _UNEVEN * step + _ROUNDING_MM
    return even


def _spacings(distances: npt.NDArray[np.float64]) -> dict[float, int]:
    """Spacings that hold over a run of distances, and how many distances have them."""
    found: dict[float, int] = {}
    for spacing, run in groupby(_named(distances)):
        count = len(list(run))
        if count >= _RUN:
            found[spacing] = found.get(spacing, 0) + count
    return found


def _named(distances: npt.NDArray[np.float64]) -> list[float]:
    """Each distance by the first one that is even with it."""
    known: list[float] = []
    named = []
    for distance in distances:
        near = [k for k in known if _even(np.array([distance]), k).all()]
        if not near:
            known.append(float(distance))
        named.append(near[0] if near else float(distance))
    return named
