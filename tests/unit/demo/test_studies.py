"""The demo's phantom studies: DICOM that stands on its own, the same every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.demo.phantom_studies import write_study
from dicom_node.demo.studies import DemoStudy, demo_studies
from tests.peers.dcmtk import run_tool


@pytest.fixture(scope="module")
def studies() -> list[DemoStudy]:
    return demo_studies()


def test_the_studies_are_the_same_every_time(studies: list[DemoStudy]) -> None:
    for first, second in zip(studies, demo_studies(), strict=True):
        assert first.study_uid == second.study_uid
        for one, other in zip(first.instances, second.instances, strict=True):
            assert one.SOPInstanceUID == other.SOPInstanceUID
            assert one.PixelData == other.PixelData


def test_every_phantom_image_is_valid_dicom(studies: list[DemoStudy], tmp_path: Path) -> None:
    for study in studies:
        write_study(study.instances[:1], tmp_path / study.name)
        (file,) = (tmp_path / study.name).iterdir()
        checked = run_tool("dciodvfy", "-new", str(file))
        errors = [line for line in checked.stderr.splitlines() if line.startswith("Error")]
        assert errors == [], study.name


def test_nobody_takes_a_phantom_for_a_patient(studies: list[DemoStudy]) -> None:
    for study in studies:
        for item in study.instances:
            assert str(item.PatientName).startswith("Phantom")
            assert "simulated" in item.ManufacturerModelName


def test_a_film_stored_as_monochrome1_shows_the_same_picture(
    studies: list[DemoStudy], tmp_path: Path
) -> None:
    hip = next(study for study in studies if study.name == "hip radiograph")
    (film,) = hip.instances
    assert film.PhotometricInterpretation == "MONOCHROME1"
    write_study(hip.instances, tmp_path)
    read = dcmread(tmp_path / f"{film.SOPInstanceUID}.dcm").pixel_array
    height, width = read.shape
    middle = read[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3]
    assert np.median(middle) < np.median(read[-height // 8 :, : width // 8])
