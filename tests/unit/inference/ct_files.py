"""CT series written to a folder, classic or enhanced."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import EnhancedCTImageStorage, generate_uid

from tests.factories import ct_slice

STUDY, SERIES = "1.2.3", "1.2.3.1"


def slice_values(z: float) -> np.ndarray:
    """What a slice at height z holds: stored values (HU + 1024) that tell it from all others."""
    values = np.full((20, 24), 1024, np.uint16)
    values[5:15, 5:19] = 1024 + round(z)
    values[0, 0] = 1000
    return values


def series(
    heights: Iterable[float], *, series_uid: str = SERIES, first: int = 1, **attributes: Any
) -> list[FileDataset]:
    return [
        ct_slice(slice_values(z), z, study=STUDY, series=series_uid, number=number, **attributes)
        for number, z in enumerate(heights, start=first)
    ]


def enhanced(heights: Sequence[float], **shared: Any) -> FileDataset:
    """One enhanced multi-frame CT; `shared` replaces attributes of the shared macros."""
    dataset = ct_slice(slice_values(0), 0, study=STUDY, series=SERIES, number=1)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    for keyword in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "RescaleSlope",
        "RescaleIntercept",
        "RescaleType",
    ):
        delattr(dataset, keyword)
    dataset.NumberOfFrames = len(heights)
    dataset.PixelData = b"".join(slice_values(z).tobytes() for z in heights)
    common = Dataset()
    common.PlaneOrientationSequence = [Dataset()]
    common.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    common.PixelMeasuresSequence = [Dataset()]
    common.PixelMeasuresSequence[0].PixelSpacing = [0.5, 0.5]
    values = Dataset()
    values.RescaleSlope = shared.get("RescaleSlope", 1)
    values.RescaleIntercept = shared.get("RescaleIntercept", -1024)
    values.RescaleType = shared.get("RescaleType", "HU")
    common.PixelValueTransformationSequence = [values]
    dataset.SharedFunctionalGroupsSequence = [common]
    frames = []
    for z in heights:
        frame, place = Dataset(), Dataset()
        place.ImagePositionPatient = [0, 0, z]
        frame.PlanePositionSequence = [place]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    return dataset


def write(folder: Path, datasets: Iterable[FileDataset]) -> list[Path]:
    """Write data sets, in their order; names say nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for dataset in datasets:
        file = folder / f"{generate_uid()}.dcm"
        dataset.save_as(file, enforce_file_format=True)
        files.append(file)
    return files
