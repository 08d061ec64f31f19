"""Phantom studies as DICOM: what the demo and the tests send instead of a patient."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from dicom_node.model.codes import Code
from dicom_node.model.identifiers import derived_uid


def radiograph_study(
    pixels: npt.NDArray[np.uint16],
    spacing_mm: float,
    *,
    key: str,
    body_part: str,
    description: str,
    anatomy: Code | None = None,
    view: str = "AP",
    laterality: str = "",
    monochrome1: bool = False,
    made: datetime | None = None,
) -> list[FileDataset]:
    """Wrap one radiograph as a DX study of a phantom patient.

    Args:
        pixels: [H, W], 12 bits, bright bone.
        key: Makes the UIDs: the same key, the same study.
        anatomy: The region's code, where the body part is known.
        laterality: "R", "L", or "" for a film of both sides.
        monochrome1: Store it as a film reads (bone dark).
    """
    dataset = _instance(DigitalXRayImageStorageForPresentation, key, "1", "1", made)
    dataset.Modality = "DX"
    dataset.StudyDescription = dataset.SeriesDescription = description
    dataset.BodyPartExamined = body_part
    dataset.ViewPosition = view
    dataset.ImageLaterality = laterality or "B"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", ""]
    # of Type 2: there, though unknown
    dataset.AnatomicRegionSequence = [] if anatomy is None else [_coded(anatomy)]
    dataset.AcquisitionContextSequence = []
    dataset.DetectorType = dataset.PositionerType = ""
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = 1 if monochrome1 else -1
    dataset.ImagerPixelSpacing = dataset.PixelSpacing = [spacing_mm, spacing_mm]
    dataset.PatientOrientation = ["L", "F"]
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    dataset.PresentationLUTShape = "INVERSE" if monochrome1 else "IDENTITY"
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
    dataset.PhotometricInterpretation = "MONOCHROME1" if monochrome1 else "MONOCHROME2"
    _put_pixels(dataset, 4095 - pixels if monochrome1 else pixels, bits=12, signed=False)
    return [dataset]


def ct_study(
    volume: npt.NDArray[np.int16],
    spacing: tuple[float, float, float],
    *,
    key: str,
    body_part: str,
    description: str,
    contrast: str = "",
    made: datetime | None = None,
) -> list[FileDataset]:
    """Wrap a volume as one axial CT series of a phantom patient.

    Args:
        volume: int16 HU [H, W, D], slices from feet to head, supine and head first.
        spacing: (row, column, slice) in mm.
    """
    row, column, between = spacing
    height, width, depth = volume.shape
    slices = []
    for number in range(depth):
        dataset = _instance(CTImageStorage, key, "1", str(number + 1), made)
        dataset.Modality = "CT"
        dataset.StudyDescription = dataset.SeriesDescription = description
        dataset.BodyPartExamined = body_part
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.InstanceNumber = number + 1
        dataset.KVP = 120
        dataset.SliceThickness = between
        dataset.ConvolutionKernel = "STANDARD"
        dataset.PatientPosition = "HFS"
        dataset.AcquisitionNumber = 1
        if contrast:
            dataset.ContrastBolusAgent = contrast
        dataset.FrameOfReferenceUID = derived_uid("phantom", key, "frame")
        dataset.PositionReferenceIndicator = ""
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [
            -column * width / 2,
            -row * height / 2,
            round(number * between, 3),
        ]
        dataset.PixelSpacing = [row, column]
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = -1024, 1, "HU"
        dataset.WindowCenter, dataset.WindowWidth = 40, 400
        dataset.BurnedInAnnotation = "NO"
        dataset.PhotometricInterpretation = "MONOCHROME2"
        stored = np.clip(volume[:, :, number].astype(np.int32) + 1024, 0, 4095).astype(np.uint16)
        _put_pixels(dataset, stored, bits=12, signed=False)
        slices.append(dataset)
    return slices


def write_study(study: Sequence[FileDataset], folder: Path) -> None:
    """Write a study's instances into a folder, one file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for dataset in study:
        dataset.save_as(folder / f"{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)


def _instance(
    sop_class: UID, key: str, series: str, number: str, made: datetime | None
) -> FileDataset:
    at = made or datetime.now(UTC)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = UID(derived_uid("phantom", key, series, number))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = derived_uid("phantom", key)
    dataset.SeriesInstanceUID = derived_uid("phantom", key, series)
    dataset.PatientName = f"Phantom^{key}"
    dataset.PatientID = f"PHANTOM-{key}"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "O"
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = at.strftime("%Y%m%d")
    dataset.ContentDate = dataset.StudyDate
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = at.strftime("%H%M%S")
    dataset.ContentTime = dataset.StudyTime
    dataset.TimezoneOffsetFromUTC = "+0000"
    dataset.StudyID = "1"
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.SeriesNumber = int(series)
    dataset.InstanceNumber = int(number)
    dataset.Manufacturer = "phantom generator"
    dataset.ManufacturerModelName = "simulated image, no patient"
    return dataset


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = code.value, code.scheme
    item.CodeMeaning = code.meaning
    return item


def _put_pixels(
    dataset: FileDataset, pixels: npt.NDArray[np.uint16], *, bits: int, signed: bool
) -> None:
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel = 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
    dataset.PixelRepresentation = int(signed)
    dataset.PixelData = pixels.astype("<u2").tobytes()
