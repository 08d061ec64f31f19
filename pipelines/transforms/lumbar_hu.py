"""The published relation between trabecular HU and BMD."""

from __future__ import annotations

from typing import Final

SLOPE: Final = 0.7
INTERCEPT: Final = 17.8


def bmd_of_hu(hu: float) -> float:
    """BMD in mg/cm³ from the mean trabecular HU of an unenhanced CT."""
    return SLOPE * hu + INTERCEPT


def hu_of_bmd(bmd_mg_cm3: float) -> float:
    """The inverse of `bmd_of_hu`."""
    return (bmd_mg_cm3 - INTERCEPT) / SLOPE
