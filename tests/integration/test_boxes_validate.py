"""Reports with boxes and segments, as bundles of a site make them, read by programs not ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from dicom_node.model.codes import (
    CERTAINTY_OF_FINDING,
    MILLILITER,
    NO_UNITS,
    PERCENT,
    VOLUME,
    Code,
)
from dicom_node.model.documents import DocumentClass
from dicom_node.model.findings import Finding, Findings, Measurement, Region, Side, Subject
from dicom_node.model.own_codes import NUMBER_FOUND
from dicom_node.model.pipeline import PipelineSpec, ResultObject
from dicom_node.results.report import Report, build_report
from tests.integration.test_results_validate import check, unexplained
from tests.peers.pixelmed import validate_documents
from tests.unit.results import samples

LUNG = Code("39607008", "SCT", "Lung")
SPLEEN = Code("78961009", "SCT", "Spleen")
NODULE = Code("27925004", "SCT", "Nodule")
ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")


def _numbers(subject: Subject, count: int) -> Measurement:
    return Measurement(subject, NUMBER_FOUND, count, NO_UNITS, method="boxes of 0.5 or more")


def _score(subject: Subject, value: float) -> Measurement:
    return Measurement(subject, CERTAINTY_OF_FINDING, value, PERCENT, method="not calibrated")


def on_a_film(header: Dataset) -> Findings:
    image = samples.reference(header)
    whole = Subject("lung", LUNG, Side.NONE, (image,))
    items: list[Finding] = [_numbers(whole, 2)]
    for number, (left, top) in enumerate(((5, 8), (30, 40)), start=1):
        subject = Subject(f"nodule {number}", LUNG, Side.NONE, (image,), (left, top, 9, 11))
        mask = np.zeros((64, 48), bool)
        mask[top : top + 11, left : left + 9] = True
        box = (left + 0.25, top + 0.5, 8.5, 10.0)
        items += [Region(subject, NODULE, mask, ABNORMAL, (box, image)), _score(subject, 91.5)]
    return samples.findings(header, items, statement="Lung: 2 found.")


def in_a_volume(headers: Sequence[Dataset]) -> Findings:
    images = tuple(samples.reference(header) for header in headers)
    spleen = Subject("spleen", SPLEEN, Side.NONE, images[8:14])
    mask = np.zeros((6, 64, 64), bool)
    mask[:, 10:30, 20:50] = True
    items: list[Finding] = [
        Region(spleen, SPLEEN, mask),
        Measurement(spleen, VOLUME, 212.5, MILLILITER, method="number of voxels"),
        _numbers(Subject("lung", LUNG, Side.NONE, images), 2),
    ]
    for number in (1, 2):
        nodule = Subject(f"nodule {number}", LUNG, Side.NONE, images[4 * number : 4 * number + 4])
        items += _box(nodule)
    return samples.findings(headers, items, procedure=samples.CT_ABDOMEN)


def _box(subject: Subject) -> list[Finding]:
    box = np.zeros((4, 64, 64), bool)
    box[:, 40:48, 8:16] = True
    marked = ((8.0, 40.0, 8.0, 8.0), subject.images[2])
    return [Region(subject, NODULE, box, ABNORMAL, marked), _score(subject, 77)]


def of_one_box(headers: Sequence[Dataset]) -> Findings:
    """As the engine makes it: the number of boxes stands in the group of the only one."""
    images = tuple(samples.reference(header) for header in headers[4:8])
    nodule = Subject("nodule 1", LUNG, Side.NONE, images)
    return samples.findings(headers, [_numbers(nodule, 1), *_box(nodule)])


def _spec(spec: PipelineSpec, *objects: ResultObject) -> PipelineSpec:
    return spec.model_copy(update={"objects": list(objects)})


@pytest.fixture(scope="module")
def reports() -> dict[str, Report]:
    film = samples.knee_header(BodyPartExamined="CHEST")
    film.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.4"
    picture = {samples.reference(film).key: np.full((64, 48), 90, np.uint8)}
    series = samples.ct_series()
    pictures = {samples.reference(h).key: np.full((64, 64), 90, np.uint8) for h in series}
    segmentation, state = ResultObject.SEGMENTATION, ResultObject.PRESENTATION_STATE
    return {
        "film": build_report(on_a_film(film), [film], picture, _spec(samples.SPEC, state)),
        "volume": build_report(
            in_a_volume(series), series, pictures, _spec(samples.CT_SPEC, segmentation, state)
        ),
        "one": build_report(
            of_one_box(series), series, pictures, _spec(samples.CT_SPEC, segmentation)
        ),
    }


def test_every_object_passes_the_validators(reports: dict[str, Report], tmp_path: Path) -> None:
    for name, report in reports.items():
        assert report.left_out == ()
        for number, item in enumerate(report.objects):
            check(item, tmp_path / f"{name}{number}.dcm")


def test_documents_with_boxes_pass_the_validator_of_ihe(
    reports: dict[str, Report], tmp_path: Path
) -> None:
    files = []
    for name, report in reports.items():
        main = report.objects[0]
        for form in (main, *main.alternatives):
            if form.sop_class_uid != DocumentClass.BASIC_TEXT.uid:
                files.append(tmp_path / f"{name}-{form.sop_class_uid}.dcm")
                files[-1].write_bytes(form.encoded)
    lines = [line for said in validate_documents(files).values() for line in said]
    assert [line for line in lines if line.startswith("Error")] == []
    assert unexplained(lines, "DicomSRValidator") == []


def test_a_segment_of_a_lesion_says_that_it_is_none_of_the_anatomy(
    reports: dict[str, Report],
) -> None:
    (segments,) = [item for item in reports["volume"].objects if item.kind == "SEG"]
    told = {
        item.SegmentLabel: item.SegmentedPropertyCategoryCodeSequence[0].CodeValue
        for item in segments.dataset.SegmentSequence
    }
    assert told == {"spleen": "91723000", "nodule 1": "49755003", "nodule 2": "49755003"}


def test_the_text_of_a_report_without_coordinates_says_where_the_box_is(
    reports: dict[str, Report],
) -> None:
    forms = reports["film"].objects[0].alternatives
    (basic,) = [f for f in forms if f.sop_class_uid == DocumentClass.BASIC_TEXT.uid]
    items = list(basic.dataset.iterall())
    said = [str(item.value) for item in items if item.keyword == "TextValue"]
    assert "columns 5.25 to 13.75, rows 8.5 to 18.5" in said
    assert "SCOORD" not in {item.value for item in items if item.keyword == "ValueType"}
