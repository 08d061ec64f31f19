"""Factories of plain data and DICOM data sets for tests; nothing here is a real patient."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)
from sqlalchemy.orm import Session

from dicom_node.model.instances import AttributeValue, InstanceFacts
from dicom_node.store.tables import Report


class ManualClock:
    """A clock that stands still until it is told to move."""

    def __init__(self, at: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) -> None:
        self._at = at

    def now(self) -> datetime:
        return self._at

    def move(self, seconds: float) -> None:
        self._at += timedelta(seconds=seconds)


def facts(
    *,
    study: str = "1.2.3",
    series: str = "1.2.3.1",
    sop: str = "1.2.3.1.1",
    sender: str = "XR",
    sop_class: str = str(DigitalXRayImageStorageForPresentation),
    **attributes: AttributeValue,
) -> InstanceFacts:
    """Facts of one instance; a DX unless told otherwise."""
    return InstanceFacts(
        sop_instance_uid=sop,
        sop_class_uid=sop_class,
        series_instance_uid=series,
        study_instance_uid=study,
        transfer_syntax_uid=str(ExplicitVRLittleEndian),
        sender=sender,
        attributes={"Modality": "DX", **attributes},
    )


def radiograph(
    pixels: np.ndarray | None = None, *, study: str | None = None, **attributes: object
) -> FileDataset:
    """A DX image with its file meta; attributes by keyword override."""
    pixels = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48) if pixels is None else pixels
    dataset = _base(DigitalXRayImageStorageForPresentation, "DX", study)
    dataset.BodyPartExamined = "KNEE"
    dataset.ViewPosition = "AP"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.PixelSpacing = [0.2, 0.2]
    _put_pixels(dataset, pixels)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def ct_slice(
    pixels: np.ndarray, z: float, *, study: str, series: str, number: int, **attributes: object
) -> FileDataset:
    """One axial CT slice in HU + 1024."""
    dataset = _base(CTImageStorage, "CT", study)
    dataset.SeriesInstanceUID = series
    dataset.InstanceNumber = number
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImagePositionPatient = [0.0, 0.0, z]
    dataset.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    dataset.PixelSpacing = [1.0, 1.0]
    dataset.SliceThickness = 3.0
    dataset.RescaleIntercept = -1024
    dataset.RescaleSlope = 1
    dataset.RescaleType = "HU"
    _put_pixels(dataset, pixels)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def _base(sop_class: str, modality: str, study: str | None) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(None, Dataset(), file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = study or generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.PatientName = "Test^Phantom"
    dataset.PatientID = "PHANTOM"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = ""
    dataset.StudyDate = "20260102"
    dataset.StudyTime = "030405"
    dataset.StudyID = "1"
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = 1
    dataset.Modality = modality
    dataset.Manufacturer = "Test"
    return dataset


def _put_pixels(dataset: FileDataset, pixels: np.ndarray) -> None:
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = 16
    dataset.BitsStored = 12
    dataset.HighBit = 11
    dataset.PixelRepresentation = 0
    dataset.PixelData = pixels.astype("<u2").tobytes()


def report_row(session: Session, job_id: int, at: datetime, **changes: Any) -> Report:
    """Put a report of a job into the tables, as finishing the job does."""
    report = Report(
        **{
            "job_id": job_id,
            "kind": "SR",
            "sop_class_uid": "1",
            "sop_instance_uid": "1.1",
            "path": "",
            "sha256": "",
            "created_at": at,
            **changes,
        }
    )
    session.add(report)
    session.flush()
    return report
