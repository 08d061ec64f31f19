"""Jobs made of DICOM files in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset

from dicom_node.inference.local import JobInput
from dicom_node.model.instances import facts_of
from dicom_node.model.targets import Rejection
from tests.unit.inference.ct_files import write

STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def job(
    folder: Path, datasets: Sequence[FileDataset], rejection: Rejection | None = None
) -> JobInput:
    facts = tuple(facts_of(d, str(d.file_meta.TransferSyntaxUID)) for d in datasets)
    return JobInput(tuple(write(folder, datasets)), facts, rejection, STARTED)


def spot(row: int, column: int, *, height: int = 96, width: int = 128) -> np.ndarray:
    """A dim image with one bright spot, 12 bits."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 400, (height, width))
    image[row - 6 : row + 6, column - 6 : column + 6] = rng.integers(3600, 4095, (12, 12))
    return image.astype(np.uint16)
