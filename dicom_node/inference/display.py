"""Stored values to what a screen would show, by the standard's grey-scale transformations.

The order is that of PS3.4 annex N.2: Modality LUT, VOI LUT, then polarity. Every step is a
function of the stored value alone, so it is worked out once for each value that occurs, and the
image is looked up in the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from pydicom.dataset import Dataset

Floats = npt.NDArray[np.float64]
_Places = npt.NDArray[np.signedinteger[Any]]

_MOST_LEVELS: Final = 2**20
_LEAST_INNER: Final = 0.05
_STRETCH: Final = (0.005, 0.995)

# A window is believed if of the anatomy, which is what lies strictly between the darkest and the
# brightest value, it burns out at most this share, blackens at most that (there may be much air
# and collimator), and leaves this much contrast between the 5th and the 95th percentile.
_MOST_BURNT_OUT: Final = 0.25
_MOST_BLACKENED: Final = 0.85
_LEAST_CONTRAST: Final = 0.1
_BLACK, _WHITE = 0.5 / 255, 254.5 / 255


class NothingShownError(ValueError):
    """Every pixel has the same value, or none has one."""


@dataclass(frozen=True, slots=True, eq=False)
class _Levels:
    """The values that occur: stored, after the Modality LUT, and how many pixels have each."""

    values: Floats
    counts: npt.NDArray[np.int64]

    def percentiles(self, of: Floats, shares: tuple[float, ...], inner: bool = True) -> Floats:
        """Return percentiles over the pixels of `of`, which has one entry a level."""
        counts = self.inner if inner else self.counts
        order = np.argsort(of, kind="stable")
        passed = np.cumsum(counts[order])
        places = np.searchsorted(passed, np.asarray(shares) * passed[-1])
        found: Floats = of[order][np.minimum(places, len(order) - 1)]
        return found

    @property
    def inner(self) -> npt.NDArray[np.int64]:
        """Counts without the two extremes: borders, collimators, saturation, burnt-in text."""
        used = self.counts > 0
        low, high = self.values[used].min(), self.values[used].max()
        counts = np.where((self.values > low) & (self.values < high), self.counts, 0)
        enough = counts.sum() >= _LEAST_INNER * self.counts.sum()
        return counts if enough and counts.any() else self.counts


def display(stored: npt.NDArray[Any], dataset: Dataset) -> npt.NDArray[np.float32]:
    """Return one frame as shown: float32 [H, W] in 0..1, bright bone, padding 0.

    The first VOI LUT or window is taken if it shows the anatomy (see `_believed`), otherwise the
    0.5th to 99.5th percentile.

    Raises:
        NothingShownError: The frame is constant.
    """
    valid = _valid(stored, dataset)
    axis, index = _axis(stored)
    seen = torch.from_numpy(index if valid is None else index[valid]).reshape(-1)
    counts = torch.bincount(seen, minlength=len(axis)).numpy()
    counts[~np.isfinite(axis)] = 0
    values = next(
        (found for found in (_modality(axis, dataset), axis) if _differ(found[counts > 0])), None
    )
    if values is None:
        raise NothingShownError("every pixel has the same value")
    used = values[counts > 0]
    levels = _Levels(values, counts)
    inverted = _is_inverted(dataset)
    shown = _voi(values, dataset)
    if shown is None or not _believed(shown, levels, inverted):
        low, high = levels.percentiles(values, _STRETCH)
        if high <= low:
            low, high = float(used.min()), float(used.max())
        shown = np.clip((values - low) / (high - low), 0, 1)
    table = (1 - shown if inverted else shown).astype(np.float32)
    image = _looked_up(table, index)
    if valid is not None:
        image[~valid] = 0
    return image


def _differ(values: Floats) -> bool:
    """Tell whether values are not all the same; a transformation that levels all is a mistake."""
    return bool(len(values) and np.isfinite(values).all() and values.min() < values.max())


def _axis(stored: npt.NDArray[Any]) -> tuple[Floats, _Places]:
    """Return the values that may occur, and for each pixel which one it has."""
    if stored.dtype.kind in "ui":
        low, high = int(stored.min()), int(stored.max())
        if high - low < _MOST_LEVELS:
            axis = np.arange(low, high + 1, dtype=np.float64)
            wide = np.int32 if stored.dtype.itemsize <= 2 else np.int64
            return axis, np.subtract(stored, low, dtype=wide, casting="unsafe")
    found, index = np.unique(stored, return_inverse=True)
    return found.astype(np.float64), index.reshape(stored.shape)


def _looked_up(table: npt.NDArray[np.float32], index: _Places) -> npt.NDArray[np.float32]:
    # of the ways to look five million pixels up, this one copies none of them before
    places = torch.from_numpy(index).reshape(-1)
    found: npt.NDArray[np.float32] = torch.from_numpy(table).index_select(0, places).numpy()
    return found.reshape(index.shape)


def _valid(stored: npt.NDArray[Any], dataset: Dataset) -> npt.NDArray[np.bool_] | None:
    """Leave out pixel padding (PS3.3 C.7.5.1.1.2) and what is no number; None: all is valid."""
    finite = np.isfinite(stored) if stored.dtype.kind == "f" else None
    padding = dataset.get("PixelPaddingValue")
    if not isinstance(padding, int):
        return finite
    limit = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((padding, limit if isinstance(limit, int) else padding))
    valid = (stored < low) | (stored > high)
    if finite is not None:
        valid &= finite
    # some senders declare a value that the image itself is made of
    return valid if valid.mean() > _LEAST_INNER else finite


def _is_inverted(dataset: Dataset) -> bool:
    if dataset.get("PresentationIntentType") == "FOR PROCESSING":
        # raw data of a detector: PS3.3 C.8.11.3.1.2 tells which end the bone is at
        sign = dataset.get("PixelIntensityRelationshipSign")
        if sign in (1, -1):
            return bool(sign == 1)
    # for MONOCHROME1 the shape INVERSE only says again what the interpretation says (C.8.11.3)
    return bool(
        dataset.get("PhotometricInterpretation") == "MONOCHROME1"
        or dataset.get("PresentationLUTShape") == "INVERSE"
    )


def _modality(axis: Floats, dataset: Dataset) -> Floats:
    """Apply the Modality LUT, or Rescale Slope and Intercept (PS3.3 C.11.1)."""
    item = _first_item(dataset, "ModalityLUTSequence")
    if item is not None:
        looked_up = _look_up(axis, item, dataset)
        if looked_up is not None:
            return looked_up[0]
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    if not slope:
        slope = 1.0
    return axis * slope + (intercept or 0.0)


def _voi(values: Floats, dataset: Dataset) -> Floats | None:
    """Apply the first VOI LUT, else the first window (PS3.3 C.11.2), to 0..1; None: neither."""
    item = _first_item(dataset, "VOILUTSequence")
    if item is not None:
        looked_up = _look_up(values, item, dataset)
        if looked_up is not None:
            found, low, high = looked_up
            return (found - low) / (high - low)
    centre, width = number(dataset, "WindowCenter"), number(dataset, "WindowWidth")
    if centre is None or width is None or width <= 0:
        return None
    return window(values, centre, width, str(dataset.get("VOILUTFunction") or "LINEAR"))


def window(values: Floats, centre: float, width: float, function: str = "LINEAR") -> Floats:
    """Apply a window, to 0..1 (PS3.3 C.11.2.1.2 and C.11.2.1.3); an unknown function is LINEAR."""
    function = function.upper()
    if function == "SIGMOID":
        slopes = np.clip(-4 * (values - centre) / width, -700, 700)
        return np.asarray(1 / (1 + np.exp(slopes)), np.float64)
    if function != "LINEAR_EXACT":
        centre, width = centre - 0.5, max(width - 1, 1e-6)
    return np.clip((values - centre) / width + 0.5, 0, 1)


def _believed(shown: Floats, levels: _Levels, inverted: bool) -> bool:
    inner = levels.inner
    total = inner.sum()
    black, white = inner[shown <= _BLACK].sum() / total, inner[shown >= _WHITE].sum() / total
    if inverted:
        black, white = white, black
    low, high = levels.percentiles(shown, (0.05, 0.95))
    return bool(
        white <= _MOST_BURNT_OUT and black <= _MOST_BLACKENED and high - low >= _LEAST_CONTRAST
    )


def _look_up(values: Floats, item: Dataset, dataset: Dataset) -> tuple[Floats, float, float] | None:
    """Look values up in a LUT; returns them with the table's ends, None if the table is broken."""
    table = _table(item, dataset)
    if table is None:
        return None
    first = int(item.LUTDescriptor[1])
    places = np.clip(np.floor(values) - first, 0, len(table) - 1).astype(np.intp)
    low, high = float(table.min()), float(table.max())
    return (table[places], low, high) if high > low else None


def _table(item: Dataset, dataset: Dataset) -> Floats | None:
    """Read LUT Data (0028,3006), 8 or 16 bits an entry (PS3.3 C.11.1.1.1)."""
    try:
        entries = int(item.LUTDescriptor[0]) or 2**16
        data = item.LUTData
        int(item.LUTDescriptor[1])
    except (AttributeError, TypeError, ValueError, IndexError):
        return None
    if isinstance(data, bytes):
        wide = len(data) >= 2 * entries
        big = getattr(dataset, "original_encoding", (None, True))[1] is False
        table = np.frombuffer(data, (">u2" if big else "<u2") if wide else "u1")
    else:
        table = np.atleast_1d(np.asarray(data))
    return table[:entries].astype(np.float64) if len(table) >= max(entries, 2) else None


def _first_item(dataset: Dataset, keyword: str) -> Dataset | None:
    items = dataset.get(keyword)
    return items[0] if items else None


def number(dataset: Dataset, keyword: str) -> float | None:
    """Return the (first) value of an element as a finite number; None when it is none."""
    try:
        value = dataset.get(keyword)
        found = float(value if isinstance(value, str | int | float) else value[0])
    except (TypeError, ValueError, IndexError):
        return None
    return found if np.isfinite(found) else None
