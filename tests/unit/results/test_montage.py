"""A CT series in one picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dicom_node.model.findings import Findings, Region
from dicom_node.results.drawing import SUBJECT_COLOURS
from dicom_node.results.headers import Sources
from dicom_node.results.montage import apart, compose_montage
from dicom_node.results.volume import Stack, stack_of
from tests.unit.results import samples

SIZE = 64


def stack(headers: list, findings: Findings) -> Stack:
    pictures = {
        str(h.SOPInstanceUID): np.full((SIZE, SIZE), 10 + int(h.InstanceNumber), np.uint8)
        for h in headers
    }
    made = stack_of(findings.images, pictures, Sources(findings, headers))
    assert made is not None
    return made


def test_slices_are_stacked_from_feet_to_head_whatever_their_order() -> None:
    headers = samples.ct_series()
    findings = samples.vertebrae(headers)
    shuffled = replace(findings, images=findings.images[::-1])
    made = stack(headers, shuffled)
    assert [int(plane[0, 0]) for plane in made.pictures] == list(range(11, 35))
    assert made.spacing == (5.0, 2.0, 2.0)
    assert made.axial
    assert made.right_is_left


def test_a_region_lies_on_its_own_slices() -> None:
    headers = samples.ct_series()
    findings = samples.vertebrae(headers)
    made = stack(headers, findings)
    region = findings.items[2]
    assert isinstance(region, Region)
    assert sorted(made.planes(region)) == [14, 15, 16, 17]


def test_every_level_is_drawn_in_its_colour() -> None:
    headers = samples.ct_series()
    findings = samples.vertebrae(headers)
    pixels = compose_montage(findings, findings.items, stack(headers, findings)).pixels
    for colour in SUBJECT_COLOURS[:2]:
        assert (pixels == colour).all(axis=2).sum() > 500


@pytest.mark.parametrize(
    ("wanted", "places"),
    [
        ([100, 400], [100, 400]),
        ([100, 101, 102], [100, 126, 152]),
        ([490, 495, 500], [448, 474, 500]),
        ([0], [46]),
    ],
)
def test_names_that_would_lie_on_each_other_keep_apart_and_stay_on_the_canvas(
    wanted: list[int], places: list[int]
) -> None:
    assert apart(wanted, top=20, foot=500, step=26) == places


def test_the_head_is_up_in_the_overview() -> None:
    headers = samples.ct_series()
    findings = samples.vertebrae(headers)
    pixels = compose_montage(findings, findings.items, stack(headers, findings)).pixels
    overview = pixels[:, :700].astype(int)
    l1 = np.argwhere((overview == SUBJECT_COLOURS[0]).all(axis=2))[:, 0].mean()
    l2 = np.argwhere((overview == SUBJECT_COLOURS[1]).all(axis=2))[:, 0].mean()
    assert l1 < l2


@pytest.mark.parametrize(
    "broken", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"]
)
def test_missing_geometry_still_gives_a_picture(broken: str) -> None:
    headers = samples.ct_series()
    for header in headers:
        del header[broken]
    findings = samples.vertebrae(headers)
    pixels = compose_montage(findings, findings.items, stack(headers, findings)).pixels
    assert pixels.shape[2] == 3
    assert min(pixels.shape[:2]) > 900


def test_a_series_that_was_not_evaluated_shows_its_overview() -> None:
    headers = samples.ct_series()
    findings = samples.vertebrae(headers)
    subject = findings.items[-1].subject
    declined = samples.not_evaluated(headers[0]).items[0]
    item = replace(declined, subject=subject)
    findings = replace(findings, items=(item,))
    pixels = compose_montage(findings, findings.items, stack(headers, findings)).pixels
    assert pixels.shape[0] >= 1500


def test_a_series_without_pictures_has_no_stack() -> None:
    headers = samples.ct_series()
    findings = samples.vertebrae(headers)
    assert stack_of(findings.images, {}, Sources(findings, headers)) is None
