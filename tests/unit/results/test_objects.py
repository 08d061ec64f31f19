"""What a pipeline may send beside SR and SC: each object says what was found, and where."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from io import BytesIO

import highdicom as hd
import numpy as np
import pytest
from highdicom.color import CIELabColor
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.sr.codedict import codes
from pydicom.tag import Tag

from dicom_node.errors import ReportError
from dicom_node.model.findings import Findings, Region, Saliency
from dicom_node.model.own_codes import SALIENCY
from dicom_node.model.pipeline import PipelineSpec, ResultObject
from dicom_node.results.check import check_object
from dicom_node.results.drawing import SUBJECT_COLOURS
from dicom_node.results.report import Report, build_report
from tests.unit.results import samples

EVERYTHING = list(ResultObject)
SHAPE = (64, 48)


def with_objects(spec: PipelineSpec, *objects: ResultObject) -> PipelineSpec:
    return spec.model_copy(update={"objects": list(objects)})


def pictures(headers: list[Dataset], shape: tuple[int, int]) -> dict[str, np.ndarray]:
    return {str(h.SOPInstanceUID): np.full(shape, 90, np.uint8) for h in headers}


def both_knees(header: Dataset) -> Findings:
    right, left = samples.knees(header, SHAPE)
    return samples.findings(header, [samples.kl(right), samples.kl(left, 3)])


def knee_report(header: Dataset, *objects: ResultObject) -> Report:
    spec = with_objects(samples.SPEC, *objects)
    return build_report(both_knees(header), [header], pictures([header], SHAPE), spec)


def ct_findings(headers: list[Dataset]) -> Findings:
    """Regions of two vertebrae, and a saliency on one slice."""
    findings = samples.vertebrae(headers)
    subject = findings.items[0].subject
    map_ = samples.blob((64, 64), (10, 10, 40, 40))
    saliency = Saliency(subject, subject.images[1], map_, "BMD", "Grad-CAM", "features")
    return replace(findings, items=(*findings.items, saliency))


def ct_report(headers: list[Dataset], *objects: ResultObject) -> Report:
    """Without pictures, which take the most time: then a card stands for them."""
    spec = with_objects(samples.CT_SPEC, *objects)
    return build_report(ct_findings(headers), headers, {}, spec)


def only(report: Report, kind: str) -> Dataset:
    found = [item for item in report.objects if item.kind == kind]
    assert len(found) == 1
    return dcmread(BytesIO(found[0].encoded))


def test_a_pipeline_gets_what_it_asks_for_in_series_of_their_own() -> None:
    headers = samples.ct_series()
    assert [i.kind for i in ct_report(headers).objects] == ["SR", "SC"]
    report = ct_report(headers, *reversed(EVERYTHING))
    kinds = ["SR", "SC", "SEG", "PR", "PM", "KO", "PDF"]
    assert [i.kind for i in report.objects] == kinds
    assert [i.dataset.SeriesNumber for i in report.objects] == list(range(9100 + 200, 9307))
    assert len({i.dataset.SeriesInstanceUID for i in report.objects}) == len(kinds)
    assert {i.dataset.StudyInstanceUID for i in report.objects} == {headers[0].StudyInstanceUID}


def test_everything_is_the_same_when_made_again_on_another_day() -> None:
    headers = samples.ct_series()
    first, second = ct_report(headers, *EVERYTHING), ct_report(headers, *EVERYTHING)
    assert [i.encoded for i in first.objects] == [i.encoded for i in second.objects]
    today = date.today().strftime("%Y%m%d").encode()
    assert [i.kind for i in first.objects if today in i.encoded] == []


def test_every_object_has_the_patient_and_the_algorithm() -> None:
    headers = samples.ct_series()
    for header in headers:
        header.SpecificCharacterSet = "ISO_IR 192"
        header.PatientName = "Wang^XiaoDong=王^小東"
    for item in ct_report(headers, *EVERYTHING).objects:
        read = dcmread(BytesIO(item.encoded))
        assert read.PatientName == headers[0].PatientName, item.kind
        equipment = read.ContributingEquipmentSequence[0]
        assert equipment.ManufacturerModelName == "lumbar_bmd_ct"
        assert equipment.DeviceUID == samples.ALGORITHM.device_uid


def test_the_segmentation_has_the_regions_where_they_were_found() -> None:
    headers = samples.ct_series()
    findings = ct_findings(headers)
    report = ct_report(headers, ResultObject.SEGMENTATION)
    seg = hd.seg.segread(BytesIO(next(i.encoded for i in report.objects if i.kind == "SEG")))
    for number, region in enumerate(
        (item for item in findings.items if isinstance(item, Region)), start=1
    ):
        uids = [image.sop_instance_uid for image in region.subject.images]
        read = seg.get_pixels_by_source_instance(uids, segment_numbers=[number])
        assert np.array_equal(read[..., 0].astype(bool), region.mask)
        segment = seg.get_segment_description(number)
        assert segment.segment_label == region.subject.name
        assert segment.segmented_property_type.value == region.label.value
        colour = CIELabColor.from_dicom_value(segment.RecommendedDisplayCIELabValue)
        assert np.allclose(colour.to_rgb(), SUBJECT_COLOURS[number - 1], atol=1)


def test_a_segment_has_the_tracking_uid_of_its_group_in_the_report() -> None:
    report = ct_report(samples.ct_series(), ResultObject.SEGMENTATION)
    seg = hd.seg.segread(BytesIO(report.objects[2].encoded))
    sr = hd.sr.srread(BytesIO(report.objects[0].encoded))
    groups = {
        g.tracking_identifier: g.tracking_uid for g in sr.content.get_image_measurement_groups()
    }
    for number in seg.segment_numbers:
        segment = seg.get_segment_description(number)
        assert groups[segment.tracking_id] == segment.tracking_uid


def test_the_state_draws_each_box_and_says_what_was_found() -> None:
    header = samples.knee_header()
    state = only(knee_report(header, ResultObject.PRESENTATION_STATE), "PR")
    annotation = state.GraphicAnnotationSequence[0]
    image = annotation.ReferencedImageSequence[0]
    assert image.ReferencedSOPInstanceUID == header.SOPInstanceUID
    right, left = samples.knees(header, SHAPE)
    for subject, graphic in zip((right, left), annotation.GraphicObjectSequence, strict=True):
        x, y, width, height = subject.box or (0, 0, 0, 0)
        points = np.array(graphic.GraphicData).reshape(-1, 2)
        assert points.min(axis=0).tolist() == [x, y]
        assert points.max(axis=0).tolist() == [x + width, y + height]
    texts = [item.UnformattedTextValue for item in annotation.TextObjectSequence]
    assert texts[:2] == ["right knee: KL 2 (71 %)", "left knee: KL 3 (71 %)"]
    assert texts[-1].startswith("AI result - research use only - not for diagnosis")


def test_of_a_box_beyond_the_edge_the_state_draws_what_is_in_the_image() -> None:
    header = samples.knee_header(SHAPE)
    knee = replace(samples.one_knee(header), box=(-5, -3, 30, 80))
    spec = with_objects(samples.SPEC, ResultObject.PRESENTATION_STATE)
    findings = samples.findings(header, [samples.kl(knee)])
    state = only(build_report(findings, [header], pictures([header], SHAPE), spec), "PR")
    annotation = state.GraphicAnnotationSequence[0]
    points = np.array(annotation.GraphicObjectSequence[0].GraphicData).reshape(-1, 2)
    assert points.min(axis=0).tolist() == [0, 0]
    assert points.max(axis=0).tolist() == [25, SHAPE[0]]
    assert list(annotation.TextObjectSequence[0].AnchorPoint) == [0, 0]


def test_the_state_outlines_regions_on_their_slices_only() -> None:
    headers = samples.ct_series()
    state = only(ct_report(headers, ResultObject.PRESENTATION_STATE), "PR")
    regions = [i for i in samples.vertebrae(headers).items if isinstance(i, Region)]
    wanted = {image.sop_instance_uid for region in regions for image in region.subject.images}
    drawn = {
        item.ReferencedImageSequence[0].ReferencedSOPInstanceUID: item
        for item in state.GraphicAnnotationSequence
    }
    assert set(drawn) == wanted
    rows, columns = np.nonzero(regions[0].mask[0])
    image = regions[0].subject.images[0].sop_instance_uid
    points = np.array(drawn[image].GraphicObjectSequence[0].GraphicData).reshape(-1, 2)
    corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    drawn_at = [*points.min(axis=0), *points.max(axis=0)]
    assert drawn_at == pytest.approx(corners, abs=0.5)  # the outline cuts the pixels' corners


@pytest.mark.parametrize(
    ("photometric", "shape"), [("MONOCHROME1", "INVERSE"), ("MONOCHROME2", "IDENTITY")]
)
def test_the_state_shows_bone_bright(photometric: str, shape: str) -> None:
    header = samples.knee_header(PhotometricInterpretation=photometric)
    state = only(knee_report(header, ResultObject.PRESENTATION_STATE), "PR")
    assert state.PresentationLUTShape == shape


def _states(headers: list[Dataset]) -> list[Dataset]:
    """The states of one series of films, each with a finding."""
    for number, header in enumerate(headers):
        header.SOPInstanceUID = f"1.2.3.{number}"
        header.SeriesInstanceUID = "1.2.3"
        header.StudyInstanceUID = "1.2"
    findings = samples.findings(headers, [samples.kl(samples.one_knee(h)) for h in headers])
    spec = with_objects(samples.SPEC, ResultObject.PRESENTATION_STATE)
    report = build_report(findings, headers, {}, spec)
    assert not report.left_out
    return [item.dataset for item in report.objects if item.kind == "PR"]


def _films_of(state: Dataset) -> list[str]:
    return [
        str(image.ReferencedSOPInstanceUID)
        for series in state.ReferencedSeriesSequence
        for image in series.ReferencedImageSequence
    ]


def test_films_that_are_bright_and_dark_on_bone_have_a_state_each() -> None:
    kinds = ("MONOCHROME1", "MONOCHROME2", "MONOCHROME1")
    states = _states([samples.knee_header(PhotometricInterpretation=kind) for kind in kinds])
    assert [(_films_of(state), state.PresentationLUTShape) for state in states] == [
        (["1.2.3.0", "1.2.3.2"], "INVERSE"),
        (["1.2.3.1"], "IDENTITY"),
    ]
    assert len({state.SOPInstanceUID for state in states}) == 2


@pytest.mark.parametrize(
    ("stated", "ratio"),
    [
        ({}, [1, 1]),
        ({"PixelSpacing": [0.143, 0.143]}, [1, 1]),
        ({"PixelSpacing": [0.5, 0.4]}, [5, 4]),
        ({"ImagerPixelSpacing": [0.1, 0.2]}, [1, 2]),
        ({"PixelSpacing": [0.4, 0.4], "ImagerPixelSpacing": [0.1, 0.2]}, [1, 1]),
        ({"NominalScannedPixelSpacing": [0.3, 0.1]}, [3, 1]),
        ({"PixelAspectRatio": [4, 3]}, [4, 3]),
        ({"PixelSpacing": [0, 0.4], "PixelAspectRatio": [4, 3]}, [4, 3]),
        ({"PixelSpacing": [0.00001, 0.4]}, [1, 1]),
    ],
)
def test_the_state_keeps_the_shape_of_the_pixels(
    stated: dict[str, list[float]], ratio: list[int]
) -> None:
    header = samples.knee_header()
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        if keyword in header:
            del header[keyword]
    for keyword, value in stated.items():
        setattr(header, keyword, value)
    (state,) = _states([header])
    (area,) = state.DisplayedAreaSelectionSequence
    assert area.PresentationPixelAspectRatio == ratio


def test_films_of_pixels_of_another_shape_have_another_state() -> None:
    spacings = ([0.5, 0.4], [0.2, 0.2], [0.25, 0.2])
    states = _states([samples.knee_header(PixelSpacing=list(s)) for s in spacings])
    assert [_films_of(state) for state in states] == [["1.2.3.0", "1.2.3.2"], ["1.2.3.1"]]


def test_the_parametric_map_holds_the_saliency() -> None:
    headers = samples.ct_series()
    item = next(i for i in ct_findings(headers).items if isinstance(i, Saliency))
    made = only(ct_report(headers, ResultObject.PARAMETRIC_MAP), "PM")
    mapping = made.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    values = made.pixel_array.reshape(64, 64) * mapping.RealWorldValueSlope
    assert np.abs(values - item.map).max() < 1e-4
    quantity = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0]
    assert quantity.CodeValue == SALIENCY.value


def test_a_radiograph_has_no_parametric_map_as_it_has_no_place_in_space() -> None:
    header = samples.knee_header()
    right, _ = samples.knees(header, SHAPE)
    findings = samples.findings(header, [samples.kl(right), samples.grad_cam(right, SHAPE)])
    spec = with_objects(samples.SPEC, ResultObject.PARAMETRIC_MAP)
    report = build_report(findings, [header], pictures([header], SHAPE), spec)
    assert [i.kind for i in report.objects] == ["SR", "SC"]


def test_the_key_objects_are_our_pictures_and_the_slices_that_show_the_findings() -> None:
    headers = samples.ct_series()
    report = ct_report(headers, ResultObject.KEY_OBJECTS)
    made = only(report, "KO")
    assert made.ConceptNameCodeSequence[0].CodeValue == codes.DCM.OfInterest.value
    named = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in made.ContentSequence
        if item.ValueType == "IMAGE"
    ]
    findings = ct_findings(headers)
    l1, l2, whole = (list(dict.fromkeys(i.subject for i in findings.items)))[:3]
    assert named == [
        l1.images[1].sop_instance_uid,  # the one with the saliency
        l2.images[0].sop_instance_uid,  # the first of its largest regions
        whole.images[12].sop_instance_uid,  # the middle one
        report.objects[1].sop_instance_uid,
    ]


def test_nothing_evaluated_selects_nothing() -> None:
    header = samples.knee_header()
    spec = with_objects(samples.SPEC, ResultObject.KEY_OBJECTS)
    report = build_report(samples.not_evaluated(header), [header], {}, spec)
    assert [i.kind for i in report.objects] == ["SR", "SC"]


def test_the_page_is_a_pdf_that_names_no_patient() -> None:
    header = samples.knee_header(PatientName="Secret^Person", PatientID="ID-77")
    made = only(knee_report(header, ResultObject.PDF), "PDF")
    page = bytes(made.EncapsulatedDocument)[: made.EncapsulatedDocumentLength]
    assert page.startswith(b"%PDF-")
    assert page.rstrip().endswith(b"%%EOF")
    assert page.count(b"/Type /Page ") == 1
    assert b"Secret" not in page
    assert b"ID-77" not in page
    source = made.SourceInstanceSequence[0]
    assert source.ReferencedSOPInstanceUID == header.SOPInstanceUID


@pytest.mark.parametrize(("said", "wanted"), [("NO", "NO"), ("YES", "YES"), (None, "YES")])
def test_the_page_owns_up_to_what_may_be_burned_in(said: str | None, wanted: str) -> None:
    header = samples.knee_header()
    if said:
        header.BurnedInAnnotation = said
    assert only(knee_report(header, ResultObject.PDF), "PDF").BurnedInAnnotation == wanted


@pytest.mark.parametrize("keyword", ["WindowCenter", "Rows", "RescaleSlope"])
@pytest.mark.filterwarnings("ignore")
def test_a_source_that_is_unfit_for_an_object_costs_that_object_only(keyword: str) -> None:
    headers = samples.ct_series()
    findings = ct_findings(headers)
    for header in headers:
        tag = Tag(keyword)
        vr = "US" if keyword == "Rows" else "DS"
        header[tag] = RawDataElement(tag, vr, 3, b"1\\2", 0, False, True)
    spec = with_objects(samples.CT_SPEC, ResultObject.PRESENTATION_STATE, ResultObject.PDF)
    report = build_report(findings, headers, {}, spec)
    assert [i.kind for i in report.objects] == ["SR", "SC", "PDF"]
    assert [item.kind for item in report.left_out] == ["PR"]
    assert report.left_out[0].why.startswith("the source images do not have what it needs")


@pytest.mark.parametrize(
    ("kind", "keyword"),
    [
        ("SEG", "SegmentSequence"),
        ("PR", "GraphicLayerSequence"),
        ("PM", "ContentQualification"),
        ("KO", "ContentSequence"),
        ("PDF", "EncapsulatedDocument"),
        ("PDF", "SourceInstanceSequence"),
    ],
)
def test_the_gate_refuses_an_object_that_lacks_something(kind: str, keyword: str) -> None:
    headers = samples.ct_series()
    report = ct_report(headers, *EVERYTHING)
    made = next(i.dataset for i in report.objects if i.kind == kind)
    ours = [i.dataset for i in report.objects]
    check_object(made, headers, ours)
    del made[keyword]
    with pytest.raises(ReportError, match=keyword):
        check_object(made, headers, ours)


def test_the_gate_refuses_a_reference_to_what_is_no_source() -> None:
    headers = samples.ct_series()
    report = ct_report(headers, ResultObject.KEY_OBJECTS)
    made = report.objects[-1].dataset
    with pytest.raises(ReportError, match="not a source"):
        check_object(made, headers)  # our own pictures are not given
