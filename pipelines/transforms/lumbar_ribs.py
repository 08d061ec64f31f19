"""The last rib, as a check of the count: T12 bears one, L1 none.

Bone that hangs together with a vertebra reaches 50 mm to the side where it is a transverse
process, and further where it is a rib. A spine with four or six lumbar vertebrae, a lumbar rib or
a missing twelfth one does not pass; the names would be a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.transforms.lumbar_levels import Level, LevelUncertainError

_BONE_HU: Final = (120.0, 150.0)
_SIDE_MM: Final = 100.0
_BACK_MM: Final = 64.0
_RIB_MM: Final = 56.0


def check_ribs(
    hu: npt.NDArray[np.float32],
    levels: Mapping[str, Level],
    shift: npt.NDArray[np.int64],
    spacing_mm: float,
) -> None:
    """Raise unless the sixth vertebra above the sacrum is the lowest that bears a rib.

    Args:
        hu: [X, Y, Z], to the right, front and head.
        levels: As named from S1, their grid indices `shift`ed against those of `hu`.

    Raises:
        LevelUncertainError: The last rib is out of view, or it is not where the count has it.
    """
    if "T12" not in levels:
        raise LevelUncertainError(
            "the last rib is not in view, so the count from the sacrum cannot be checked"
        )
    if "L1" in levels and min(_reach(hu, levels["L1"], shift, spacing_mm)) >= _RIB_MM:
        raise LevelUncertainError(
            "the fifth vertebra above the sacrum bears a rib: four lumbar vertebrae, or a rib too "
            "many"
        )
    if max(_reach(hu, levels["T12"], shift, spacing_mm)) < _RIB_MM:
        raise LevelUncertainError(
            "no rib is seen at the sixth vertebra above the sacrum: six lumbar vertebrae, no "
            "twelfth rib, or the last rib is out of view"
        )


def _reach(
    hu: npt.NDArray[np.float32], level: Level, shift: npt.NDArray[np.int64], spacing_mm: float
) -> tuple[float, float]:
    """How far bone that hangs together with the vertebra goes to the side, mm: by two limits of HU.

    The wider and the stricter limit; soft bone is lost by the one, noise joined by the other.
    """
    x, y, _ = np.round(level.centre + shift).astype(int)
    side, back = round(_SIDE_MM / spacing_mm), round(_BACK_MM / spacing_mm)
    # between the middles of its discs: the rib above joins higher up
    low = max(0, round(level.centre[2] + level.low))
    high = round(level.centre[2] + level.high)
    left = max(0, x - side)
    part = hu[left : x + side + 1, max(0, y - back) : y + 1, low : high + 1]
    middle, found = x - left, []
    for limit in _BONE_HU:
        pieces, _ = ndimage.label(part > limit, np.ones((3, 3, 3)))
        core = np.unique(pieces[max(0, middle - 3) : middle + 4])
        hit = np.flatnonzero(np.isin(pieces, core[core > 0]).any((1, 2)))
        ends = (middle - hit.min(), hit.max() - middle) if hit.size else (0, 0)
        found.append(float(max(ends)) * spacing_mm)
    return found[0], found[1]
