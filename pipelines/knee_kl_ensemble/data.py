"""Labelled knee images of a folder: `labels.csv` with `file`, the label column, maybe `split`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

GRADE_COLUMNS = ("kl", "label", "grade")


@dataclass(frozen=True, slots=True)
class Knees:
    """Images of one split.

    Attributes:
        images: uint8 [N, size, size], bright bone as the files show it, left knees mirrored.
        grades: int64 [N], 0 to 4.
        files: Their names relative to the folder.
        sides: "R", "L" or "" for each.
    """

    images: npt.NDArray[np.uint8]
    grades: npt.NDArray[np.int64]
    files: tuple[str, ...]
    sides: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.grades)

    def joined(self, other: Knees) -> Knees:
        """Return both, one after the other."""
        return Knees(
            np.concatenate([self.images, other.images]),
            np.concatenate([self.grades, other.grades]),
            self.files + other.files,
            self.sides + other.sides,
        )


def read_knees(
    folder: Path, split: str | None = None, *, size: int = 224, limit: int | None = None
) -> Knees:
    """Read the images of a split; without a `split` column, or with None, all of them.

    Args:
        limit: At most so many, taken evenly over the rows.

    Raises:
        ValueError: The table lacks a column, has a grade outside 0 to 4, or no row of the split.
    """
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or "file" not in rows[0]:
        raise ValueError(f"{folder / 'labels.csv'} has no column `file`, or no rows")
    column = next((name for name in GRADE_COLUMNS if name in rows[0]), None)
    if column is None:
        raise ValueError(f"{folder / 'labels.csv'} has none of {', '.join(GRADE_COLUMNS)}")
    if split is not None and "split" in rows[0]:
        rows = [row for row in rows if row["split"] == split]
    if not rows:
        raise ValueError(f"{folder / 'labels.csv'} has no row of split {split!r}")
    if limit is not None and limit < len(rows):
        rows = [rows[n] for n in np.linspace(0, len(rows) - 1, limit).astype(int)]
    grades = np.array([int(row[column]) for row in rows])
    if grades.min() < 0 or grades.max() > 4:
        raise ValueError(f"grades run from {grades.min()} to {grades.max()}, not from 0 to 4")
    sides = tuple((row.get("side") or "").strip().upper()[:1] for row in rows)
    images = np.stack(
        [_read(folder / row["file"], side, size) for row, side in zip(rows, sides, strict=True)]
    )
    return Knees(images, grades, tuple(row["file"] for row in rows), sides)


def by_grade(grades: Sequence[int] | npt.NDArray[np.int64]) -> list[int]:
    """Return how many there are of each grade."""
    return np.bincount(np.asarray(grades), minlength=5).tolist()


def _read(file: Path, side: str, size: int) -> npt.NDArray[np.uint8]:
    image = Image.open(file).convert("L")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    return np.ascontiguousarray(pixels[:, ::-1]) if side == "L" else pixels


@dataclass(frozen=True, slots=True)
class Crops:
    """Images as a tensor: uint8 [N, size, size], and grades [N]."""

    images: torch.Tensor
    grades: npt.NDArray[np.int64]


def read_crops(folder: Path, split: str | None = None) -> Crops:
    """Read a split as a tensor."""
    knees = read_knees(folder, split)
    return Crops(torch.from_numpy(knees.images), knees.grades)
