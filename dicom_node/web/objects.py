"""The objects that were made, as a browser shows them: the picture as PNG, the SR as text."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from PIL import Image
from pydicom import Dataset, dcmread

from dicom_node.errors import NodeError
from dicom_node.results.text import report_text
from dicom_node.web.callers import Caller, NotAllowedError
from dicom_node.web.failures import NotThereError

_WIDEST: Final = 1600


def file_of(reports_dir: Path, path: str) -> Path:
    """Return the file of an object.

    Raises:
        NotThereError: It is not in the folder of reports.
    """
    folder = reports_dir.resolve()
    file = (folder / path).resolve()
    if not file.is_relative_to(folder) or not file.is_file():
        raise NotThereError("this object", "its file is not there any more", "run the job again")
    return file


def text_of(file: Path | BinaryIO) -> str:
    """Return a structured report as text; it names no patient.

    Raises:
        NodeError: It is not one of ours.
    """
    try:
        return report_text(dcmread(file))
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        raise NodeError(
            "this object", "it cannot be shown as text", "open it in a viewer"
        ) from None


def is_hidden(file: Path | BinaryIO, caller: Caller) -> bool:
    """Tell whether an object's picture may name the patient to somebody who sees no patients."""
    if caller.sees_patients:
        return False
    return _may_name_patient(dcmread(file, stop_before_pixels=True))


def picture_of(file: Path | BinaryIO, caller: Caller, frame: int = 0) -> bytes:
    """Return a secondary capture's picture as PNG, of several the one that is asked for.

    Raises:
        NotAllowedError: It may name the patient, and the caller sees no patients.
        NodeError: It has no such picture.
    """
    dataset = dcmread(file)
    if not caller.sees_patients and _may_name_patient(dataset):
        raise NotAllowedError(
            "the picture may show the patient's name (its Burned In Annotation is not NO), "
            f"and {caller.name} does not see patients"
        )
    if "PixelData" not in dataset:
        raise NodeError("this object", "it has no picture", "open it in a viewer")
    pixels = dataset.pixel_array
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        if frame >= len(pixels):
            raise NotThereError("this picture", f"there are {len(pixels)}", "ask for another")
        pixels = pixels[frame]
    if pixels.dtype != np.uint8:
        raise NodeError("this object", "its picture is not one of 8 bits", "open it in a viewer")
    image = Image.fromarray(pixels)
    image.thumbnail((_WIDEST, _WIDEST))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _may_name_patient(dataset: Dataset) -> bool:
    """Burned In Annotation (0028,0301): a source that does not say so leaves it open."""
    return str(dataset.get("BurnedInAnnotation") or "") != "NO"
