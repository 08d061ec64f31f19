"""The picture: what is drawn where, and what the SC says of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset

from dicom_node.model.findings import Findings, Saliency
from dicom_node.results.check import check_object
from dicom_node.results.drawing import BACKGROUND, blend_saliency, grey_to_rgb, wrap
from dicom_node.results.headers import Sources
from dicom_node.results.origin import Origin
from dicom_node.results.overlay import LONG_SIDE, Composition, compose_overlay
from dicom_node.results.report import build_report
from dicom_node.results.sc import build_sc
from tests.unit.results import samples

SHAPE = (1200, 1000)


def grey(shape: tuple[int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(2).integers(40, 200, shape, np.uint8)


def sc_of(findings: Findings, header: Dataset, shape: tuple[int, int] = SHAPE) -> Dataset:
    pictures = {str(header.SOPInstanceUID): grey(shape)}
    return build_report(findings, [header], pictures, samples.SPEC).objects[1].dataset


def whole_image(header: Dataset) -> Findings:
    return samples.findings(header, [samples.kl(samples.one_knee(header))])


def place_of(picture: np.ndarray, composed: np.ndarray) -> tuple[int, int]:
    """(row, column) at which the picture stands in the composition."""
    rgb = grey_to_rgb(picture)
    for row in range(composed.shape[0] - picture.shape[0] + 1):
        if (composed[row, : picture.shape[1]] == rgb[0]).all():
            return row, 0
    raise AssertionError("the picture is not in the composition")


def test_words_never_cover_the_picture() -> None:
    header = samples.knee_header()
    picture = grey()
    findings = whole_image(header)
    composed = compose_overlay(findings, findings.items, picture).pixels
    row, column = place_of(picture, composed)
    shown = composed[row : row + SHAPE[0], column : column + SHAPE[1]]
    assert (shown == grey_to_rgb(picture)).all()


def test_the_map_is_laid_only_where_it_is_salient() -> None:
    header = samples.knee_header()
    picture = grey()
    subject = replace(samples.one_knee(header), box=(200, 300, 600, 600))
    saliency = samples.grad_cam(subject, SHAPE)
    composed = blend_saliency(grey_to_rgb(picture), saliency.map)
    changed = (composed != grey_to_rgb(picture)).any(axis=2)
    assert changed.any()
    assert not changed[saliency.map <= 0.3].any()
    hottest = np.unravel_index(saliency.map.argmax(), SHAPE)
    red, _, blue = composed[hottest].astype(int)
    assert red > blue


def test_the_boxes_stand_where_the_subjects_are() -> None:
    header = samples.knee_header()
    picture = np.full(SHAPE, 90, np.uint8)
    subject = replace(samples.one_knee(header), box=(200, 300, 600, 500))
    findings = samples.findings(header, [samples.kl(subject)])
    composed = compose_overlay(findings, findings.items, picture).pixels
    top = composed.shape[0] - SHAPE[0] if composed.shape[0] > SHAPE[0] else 0
    strip = next(r for r in range(top + 1) if (composed[r, :50] == 90).all())
    changed = (composed[strip : strip + SHAPE[0], : SHAPE[1]] != 90).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert abs(rows.min() - 300) < 8
    assert abs(rows.max() - 800) < 8
    assert abs(columns.min() - 200) < 8
    assert abs(columns.max() - 800) < 8


def test_a_box_that_reaches_beyond_the_picture_is_clipped() -> None:
    header = samples.knee_header()
    subject = replace(samples.one_knee(header), box=(-100, -50, 5000, 5000))
    findings = samples.findings(header, [samples.kl(subject)])
    composed = compose_overlay(findings, findings.items, grey())
    assert composed.scale == 1


def test_spacing_is_kept_at_the_sources_resolution() -> None:
    header = samples.knee_header(PixelSpacing=[0.143, 0.143])
    sc = sc_of(whole_image(header), header)
    assert [float(s) for s in sc.PixelSpacing] == [0.143, 0.143]


def test_a_reduction_is_stated_and_the_spacing_follows() -> None:
    header = samples.knee_header(PixelSpacing=[0.1, 0.1])
    sc = sc_of(whole_image(header), header, (4000, 800))
    assert "Reduced to 75%" in sc.DerivationDescription
    assert [float(s) for s in sc.PixelSpacing] == pytest.approx([0.1 * 4000 / LONG_SIDE] * 2)


def test_broken_spacing_is_left_out() -> None:
    header = samples.knee_header()
    header.PixelSpacing = [0, 0]
    assert "PixelSpacing" not in sc_of(whole_image(header), header)


@pytest.mark.parametrize("value", ["YES", "NO"])
def test_burned_in_annotation_is_the_sources(value: str) -> None:
    header = samples.knee_header(BurnedInAnnotation=value)
    assert sc_of(whole_image(header), header).BurnedInAnnotation == value


def test_burned_in_annotation_is_left_open_when_the_source_does_not_say() -> None:
    header = samples.knee_header()
    assert "BurnedInAnnotation" not in sc_of(whole_image(header), header)


@pytest.mark.parametrize(("last", "wanted"), [("YES", "YES"), ("", ""), ("NO", "NO")])
def test_a_picture_of_several_images_denies_burned_in_words_only_if_all_do(
    last: str, wanted: str
) -> None:
    headers = samples.ct_series()
    for header in headers:
        header.BurnedInAnnotation = "NO"
    headers[-1].BurnedInAnnotation = last
    sc = build_report(samples.vertebrae(headers), headers, {}, samples.CT_SPEC).objects[1].dataset
    assert sc.get("BurnedInAnnotation", "") == wanted


def test_a_lossy_source_makes_a_lossy_result() -> None:
    header = samples.knee_header()
    header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.51"
    assert sc_of(whole_image(header), header).LossyImageCompression == "01"


def test_the_side_is_in_the_series_when_all_subjects_share_it() -> None:
    header = samples.knee_header()
    assert sc_of(whole_image(header), header).Laterality == "R"
    both = samples.findings(header, [samples.kl(s) for s in samples.knees(header, SHAPE)])
    assert not sc_of(both, header).Laterality


def test_the_reader_is_told_it_is_derived_and_from_what() -> None:
    header = samples.knee_header()
    sc = sc_of(whole_image(header), header)
    assert list(sc.ImageType) == ["DERIVED", "SECONDARY"]
    assert sc.ConversionType == "WSD"
    assert sc.SourceImageSequence[0].ReferencedSOPInstanceUID == header.SOPInstanceUID
    assert "not for diagnosis" in sc.DerivationDescription


def test_a_saliency_of_the_whole_image_blends_in_the_report_too() -> None:
    header = samples.knee_header()
    subject = samples.one_knee(header)
    plain = sc_of(samples.findings(header, [samples.kl(subject)]), header)
    items = [samples.kl(subject), samples.grad_cam(subject, SHAPE)]
    mapped = sc_of(samples.findings(header, items), header)
    assert isinstance(items[1], Saliency)
    assert plain.PixelData != mapped.PixelData


def test_margins_are_dark_so_that_they_do_not_dazzle() -> None:
    header = samples.knee_header()
    findings = whole_image(header)
    composed = compose_overlay(findings, findings.items, grey()).pixels
    assert tuple(composed[0, 0]) == BACKGROUND


def test_long_words_are_cut_to_the_margin() -> None:
    lines = wrap("x" * 300 + " end", 20, 200)
    assert len(lines) > 2
    assert "".join(lines).replace(" ", "") == "x" * 300 + "end"


def test_a_picture_of_an_odd_number_of_bytes_is_made_even() -> None:
    header = samples.knee_header()
    findings = whole_image(header)
    origin = Origin(findings, Sources(findings, [header]), "Knee", 9100)
    picture = Composition(np.full((3, 5, 3), 7, np.uint8), 1.0, "")
    image = build_sc(origin, picture, findings.images, 1)
    assert len(image.PixelData) == 46
    check_object(image, [header])
