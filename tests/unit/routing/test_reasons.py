"""Why a pipeline takes none of the images, and why nothing runs on a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pydicom.uid import BasicTextSRStorage

from dicom_node.model import own_codes
from dicom_node.model.instances import AttributeValue, InstanceFacts
from dicom_node.model.pipeline import PipelineSpec
from tests.unit.routing.decisions import ct, decided, image, route, uids
from tests.unit.routing.pipeline_specs import pipeline

# the pipeline's own input selector


def rejected(spec: PipelineSpec, items: Sequence[InstanceFacts]) -> tuple[str, str]:
    """Return the code and the text of the one job's rejection."""
    decision = decided([route("everything")], items, {"knee": spec})
    (job,) = decision.jobs
    assert job.rejection is not None
    assert sorted(uids(job.instances)) == sorted(uids(items))
    assert job.reason == f"route “everything”; {job.rejection.text}"
    assert decision.unrouted_reason is None
    return job.rejection.reason.value, job.rejection.text


@pytest.mark.parametrize(
    ("when", "attributes", "code", "text"),
    [
        (
            {"body_part": "knee"},
            {"BodyPartExamined": "HIP"},
            own_codes.WRONG_BODY_PART,
            "no image is suitable: body part is HIP, wanted knee",
        ),
        (
            {"view": ["AP", "PA"]},
            {"ViewPosition": "LAT"},
            own_codes.WRONG_VIEW,
            "no image is suitable: view is LAT (LATERAL), wanted AP or PA",
        ),
        (
            {"body_part": "knee", "view": "AP"},
            {"BodyPartExamined": "CHEST", "ViewPosition": "LATERAL"},
            own_codes.WRONG_BODY_PART,
            "no image is suitable: body part is CHEST, wanted knee",
        ),
        (
            {"contrast": False},
            {"ContrastBolusAgent": "IV"},
            own_codes.CONTRAST_GIVEN,
            "no image is suitable: contrast is given, wanted none",
        ),
        (
            {"contrast": True},
            {},
            own_codes.NO_SUITABLE_IMAGE,
            "no image is suitable: contrast is not given, wanted given",
        ),
        (
            {"slice_thickness_mm": {"max": 3}},
            {"SliceThickness": 5.0},
            own_codes.THICK_SLICES,
            "no image is suitable: slice thickness (mm) is 5, wanted at most 3",
        ),
        (
            {"slice_thickness_mm": {"max": 3}},
            {},
            own_codes.NO_SUITABLE_IMAGE,
            "no image is suitable: slice thickness (mm) is not given, wanted at most 3",
        ),
        (
            {"slice_thickness_mm": {"min": 1, "max": 3}},
            {"SliceThickness": 0.5},
            own_codes.NO_SUITABLE_IMAGE,
            "no image is suitable: slice thickness (mm) is 0.5, "
            "wanted at least 1 and at most 3",
        ),
        (
            {"laterality": ["R", "L"]},
            {},
            own_codes.SIDE_UNKNOWN,
            "no image is suitable: laterality is not given, wanted R or L",
        ),
        (
            {"not_image_type": "LOCALIZER"},
            {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
            own_codes.NO_SUITABLE_IMAGE,
            "no image is suitable: image type is ORIGINAL\\PRIMARY\\LOCALIZER, "
            "wanted not LOCALIZER",
        ),
        (
            {"modality": ["CR"], "body_part": "knee"},
            {},
            own_codes.NO_SUITABLE_IMAGE,
            "no image is suitable: modality is DX, wanted CR",
        ),
    ],
)  # fmt: skip
def test_a_selector_that_takes_no_image_makes_a_rejected_job_with_the_right_code(
    when: dict[str, Any], attributes: dict[str, AttributeValue], code: Any, text: str
) -> None:
    assert rejected(pipeline(when=when), [image(**attributes)]) == (code.value, text)


def test_the_reason_is_that_of_the_image_that_came_nearest() -> None:
    spec = pipeline(when={"body_part": "knee", "view": "AP"})
    items = [
        image(BodyPartExamined="CHEST", ViewPosition="LL"),
        image(BodyPartExamined="KNEE", ViewPosition="LL"),
    ]
    assert rejected(spec, items)[0] == own_codes.WRONG_VIEW.value


def test_a_selector_takes_what_fits_of_the_images_that_the_routes_matched() -> None:
    ap, lateral = image(ViewPosition="AP"), image(ViewPosition="LATERAL")
    specs = {"knee": pipeline(when={"view": "AP"})}
    (job,) = decided([route("everything")], [lateral, ap], specs).jobs
    assert job.rejection is None
    assert job.instances == (ap,)
    assert sorted(group.matched for group in job.selection) == [False, True]


def test_a_volume_with_too_few_slices_is_not_evaluated() -> None:
    spec = pipeline("volume", min_instances=20)
    code, text = rejected(spec, [ct(n) for n in range(1, 20)])
    assert code == own_codes.TOO_FEW_SLICES.value
    assert text == "the largest series has 19 suitable images, 20 are needed"


def test_a_localizer_beside_too_few_slices_is_not_the_reason() -> None:
    spec = pipeline("volume", min_instances=20, when={"not_image_type": "LOCALIZER"})
    scout = ct(1, "1.2.3.8", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert rejected(spec, [scout, ct(1), ct(2)])[0] == own_codes.TOO_FEW_SLICES.value


def test_only_the_series_with_enough_slices_are_taken() -> None:
    specs = {"knee": pipeline("volume", min_instances=3)}
    large, small = [ct(n) for n in (1, 2, 3)], [ct(n, "1.2.3.4") for n in (1, 2)]
    (job,) = decided([route("everything")], [*small, *large], specs).jobs
    assert uids(job.instances) == uids(large)


def test_the_frames_of_a_multi_frame_instance_count_as_slices() -> None:
    specs = {"knee": pipeline("volume", min_instances=20)}
    (job,) = decided([route("everything")], [ct(1, NumberOfFrames=20)], specs).jobs
    assert job.rejection is None


# why nothing runs


def test_the_reason_tells_one_condition_a_route() -> None:
    routes = [
        route("knee radiographs", modality=["CR", "DX"], body_part="knee", view=["AP", "PA"]),
        route("abdominal CT", modality="CT", body_part="abdomen"),
    ]
    item = image(BodyPartExamined="EXTREMITY", ViewPosition="LATERAL")
    assert decided(routes, [item]).unrouted_reason == (
        "“knee radiographs”: body part is EXTREMITY, wanted knee | "
        "“abdominal CT”: modality is DX, wanted CT"
    )


def test_routes_that_fail_alike_share_an_entry() -> None:
    routes = [route(name, modality="CR", body_part=name) for name in ("knee", "hip")]
    reason = decided(routes, [image(Modality="MR", BodyPartExamined="KNEE")]).unrouted_reason
    assert reason == "“knee”, “hip”: modality is MR, wanted CR"


def test_of_many_routes_the_nearest_to_a_match_are_told() -> None:
    parts = ["hip", "foot", "hand", "wrist", "elbow"]
    routes = [
        *(route(part, modality="DX", body_part=part) for part in parts),
        route("scans", modality="CT", body_part="knee"),
        route("AP knees", modality="DX", body_part="knee", view="AP"),
    ]
    item = image(BodyPartExamined="KNEE", ViewPosition="LL")
    assert decided(routes, [item]).unrouted_reason == (
        "“hip”: body part is KNEE, wanted hip | “foot”: body part is KNEE, wanted foot | "
        "“hand”: body part is KNEE, wanted hand | “AP knees”: view is LL, wanted AP | "
        "and 3 more routes"
    )


def test_the_reason_of_a_route_is_that_of_the_image_that_came_nearest() -> None:
    items = [
        image(BodyPartExamined="CHEST", ViewPosition="AP"),
        image(BodyPartExamined="KNEE", ViewPosition="LL"),
    ]
    reason = decided([route("AP knees", body_part="knee", view="AP")], items).unrouted_reason
    assert reason == "“AP knees”: view is LL, wanted AP"


def test_the_reason_is_about_the_images_and_not_the_report_beside_them() -> None:
    items = [image(Modality="SR"), image(Modality="MR"), image(ManufacturerModelName="dicom-node")]
    reason = decided([route("films", modality="DX")], items).unrouted_reason
    assert reason == "“films”: modality is MR, wanted DX"


def test_a_study_of_nothing_but_reports_and_our_own_output_says_both() -> None:
    items = [
        image(Modality="SR", sop_class=str(BasicTextSRStorage)),
        image(ManufacturerModelName="dicom-node"),
    ]
    reason = decided([route("films")], items).unrouted_reason or ""
    assert set(reason.split(" | ")) == {
        "no image (Basic Text SR Storage)",
        "made by a dicom-node: our own output is never analysed",
    }


def test_no_routes_and_no_images_have_a_reason_too() -> None:
    assert decided([], [image()]).unrouted_reason == "node.yaml has no routes"
    assert decided([route("films")], []).unrouted_reason == "the study has no images"
