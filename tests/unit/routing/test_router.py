"""Which pipelines run on which images, for whom; what is never routed; and why nothing runs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import BasicTextSRStorage, CTImageStorage

from dicom_node.model import own_codes
from dicom_node.model.decisions import Decision
from dicom_node.model.instances import AttributeValue, InstanceFacts
from dicom_node.model.own_output import OWN_MODEL_NAME
from dicom_node.model.peers import Peer
from dicom_node.model.pipeline import PipelineSpec
from dicom_node.model.routes import Route
from dicom_node.routing import anatomy, decide
from tests.factories import facts
from tests.unit.routing.pipeline_specs import pipeline

_uids = itertools.count(1)
PEERS = {"xray": Peer(ae_title="XRAY", host="127.0.0.1", port=104)}


def image(sop: str = "", **attributes: AttributeValue | str) -> InstanceFacts:
    """Facts of an image (it has rows)."""
    return facts(sop=sop or f"1.2.3.1.{next(_uids)}", **{"Rows": 100, **attributes})  # type: ignore[arg-type]


def ct(number: int, series: str = "1.2.3.9", **attributes: AttributeValue) -> InstanceFacts:
    """Facts of a CT slice."""
    given: dict[str, Any] = {"Modality": "CT", "InstanceNumber": number, **attributes}
    return image(f"{series}.{number}", series=series, sop_class=str(CTImageStorage), **given)


def route(name: str, run: str | list[str] = "knee", **given: Any) -> Route:
    """Make a route: `send_to` and `stop` as given, everything else is a condition."""
    send_to, stop = given.pop("send_to", "pacs"), given.pop("stop", False)
    return Route.model_validate(
        {"name": name, "when": given, "run": run, "send_to": send_to, "stop": stop}
    )


ANY: Mapping[str, PipelineSpec] = {name: pipeline() for name in ("knee", "hip", "other")}


def decided(
    routes: Sequence[Route],
    items: Sequence[InstanceFacts],
    pipelines: Mapping[str, PipelineSpec] = ANY,
) -> Decision:
    return decide(routes, pipelines, items, PEERS)


def uids(items: Sequence[InstanceFacts]) -> list[str]:
    return [item.sop_instance_uid for item in items]


def test_a_study_goes_to_the_pipelines_of_every_matching_route() -> None:
    routes = [
        route("knees", ["knee", "other"], body_part="knee", send_to=["pacs"]),
        route("all films", "other", modality="DX", send_to=["archive", "pacs"]),
        route("hips", "hip", body_part="hip"),
    ]
    item = image(BodyPartExamined="KNEE")
    decision = decided(routes, [item])
    assert [r.matched for r in decision.routes] == [True, True, False]
    knee, other = decision.jobs
    assert (knee.pipeline, knee.peers, knee.routes) == ("knee", ("pacs",), ("knees",))
    assert (other.pipeline, other.peers) == ("other", ("pacs", "archive"))
    assert other.routes == ("knees", "all films")
    assert other.reason == "routes “knees”, “all films”"
    assert other.instances == (item,)
    assert decision.unrouted_reason is None


def test_all_conditions_must_hold_for_one_and_the_same_image() -> None:
    items = [image(BodyPartExamined="KNEE"), image(BodyPartExamined="HIP", ViewPosition="AP")]
    decision = decided([route("AP knees", body_part="knee", view="AP")], items)
    assert decision.jobs == ()


def test_a_job_gets_only_the_images_that_its_routes_matched() -> None:
    knee, chest = image(BodyPartExamined="KNEE"), image(BodyPartExamined="CHEST")
    (job,) = decided([route("knees", body_part="knee")], [chest, knee]).jobs
    assert job.instances == (knee,)


def test_a_matching_route_that_says_stop_ends_it() -> None:
    routes = [
        route("first", "knee", body_part="knee", stop=True),
        route("second", "other"),
    ]
    decision = decided(routes, [image(BodyPartExamined="KNEE")])
    assert [job.pipeline for job in decision.jobs] == ["knee"]
    assert decision.routes[1].skipped == "first"
    assert decision.routes[1].groups == ()


def test_a_route_that_does_not_match_stops_nothing() -> None:
    routes = [
        route("first", "knee", body_part="knee", stop=True),
        route("second", "other"),
    ]
    decision = decided(routes, [image(BodyPartExamined="HIP")])
    assert [job.pipeline for job in decision.jobs] == ["other"]


def test_images_of_another_sender_are_judged_apart() -> None:
    mine, other = image(sender="XRAY"), image(sender="CTSCAN")
    (job,) = decided([route("ours", sender="xray")], [mine, other]).jobs
    assert job.instances == (mine,)


@pytest.mark.parametrize("keyword", ["WindowCenter", "InstanceNumber", "SliceLocation"])
def test_what_changes_from_slice_to_slice_is_not_lost_when_a_route_tests_it(keyword: str) -> None:
    slices = [ct(n, **{keyword: n}) for n in range(1, 11)]
    when = {keyword: {"range": {"min": 3, "max": 5}}}
    decision = decided([route("some", attributes=when)], slices)
    (job,) = decision.jobs
    assert uids(job.instances) == uids(slices[2:5])
    assert len(decision.routes[0].groups) == 10


def test_slices_that_no_condition_tells_apart_are_one_group() -> None:
    slices = [
        ct(n, WindowCenter=n, SliceLocation=n * 0.7, ContentTime=f"1200{n:02d}", SliceThickness=5.0)
        for n in range(1, 51)
    ]
    when: dict[str, Any] = {"modality": "CT", "slice_thickness_mm": {"max": 5}}
    (group,) = decided([route("thin", **when)], slices).routes[0].groups
    assert len(group.instances) == 50


def test_a_large_ct_is_read_once_and_not_once_a_slice_and_route(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[Mapping[str, Any]] = []

    def counting(attributes: Mapping[str, Any]) -> anatomy.Anatomy:
        read.append(attributes)
        return find(attributes)

    find = anatomy.anatomy_of
    monkeypatch.setattr(anatomy, "anatomy_of", counting)
    slices = [ct(n, SliceLocation=n * 0.5, StudyDescription="CT abdomen") for n in range(1000)]
    routes = [route(f"r{n}", body_part="abdomen") for n in range(20)]
    (job,) = decided(routes, slices).jobs
    assert len(job.instances) == 1000
    assert len(job.routes) == 20
    assert len(read) == 1


def test_two_objects_with_the_same_uid_are_judged_each_by_its_own_header() -> None:
    knee, hip = image("1.2.9", BodyPartExamined="KNEE"), image("1.2.9", BodyPartExamined="HIP")
    decision = decided([route("knees", body_part="knee")], [hip, knee])
    assert [group.matched for group in decision.routes[0].groups].count(True) == 1
    assert decision.jobs[0].instances == (knee,)


# what is never routed


def test_our_own_output_is_never_analysed_again() -> None:
    ours = image(ManufacturerModelName=OWN_MODEL_NAME, BodyPartExamined="KNEE")
    decision = decided([route("everything")], [ours])
    assert decision.jobs == ()
    assert decision.unrouted_reason == "made by a dicom-node: our own output is never analysed"


def test_our_own_picture_in_a_study_is_left_out_of_its_jobs() -> None:
    ours = image(ManufacturerModelName=" DICOM-NODE ", BodyPartExamined="KNEE")
    theirs = image(ManufacturerModelName="XR 220", BodyPartExamined="KNEE")
    (job,) = decided([route("everything")], [ours, theirs]).jobs
    assert job.instances == (theirs,)


@pytest.mark.parametrize("modality", ["SR", "PR", "KO", "RTSTRUCT", "SEG", "sr"])
def test_objects_that_are_no_image_are_never_routed(modality: str) -> None:
    decision = decided([route("everything")], [image(Modality=modality)])
    assert decision.jobs == ()
    assert "no image" in (decision.unrouted_reason or "")


def test_an_object_without_rows_is_no_image() -> None:
    report = facts(sop_class=str(BasicTextSRStorage), Modality="OT")
    decision = decided([route("everything")], [report])
    assert decision.unrouted_reason == "no image (Basic Text SR Storage)"


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


def test_the_images_of_a_job_stand_in_the_order_of_series_and_number() -> None:
    slices = [ct(n) for n in range(1, 13)]
    (job,) = decided([route("everything")], slices[::-1]).jobs
    assert uids(job.instances) == uids(slices)


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


# properties

ITEMS = st.lists(
    st.builds(
        lambda **given: given,
        Modality=st.sampled_from(["DX", "CR", "CT", "SR"]),
        BodyPartExamined=st.sampled_from(["KNEE", "HIP", "EXTREMITY", "", "OTHER"]),
        ViewPosition=st.sampled_from(["AP", "LATERAL", ""]),
        SeriesDescription=st.one_of(st.text(max_size=8), st.sampled_from(["Knie li.", "Hip ap"])),
        InstanceNumber=st.integers(1, 4),
        ManufacturerModelName=st.sampled_from(["XR 220", OWN_MODEL_NAME]),
    ),
    min_size=1,
    max_size=8,
)
WHENS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "modality": st.sampled_from(["DX", "CR", "CT"]),
            "body_part": st.sampled_from(["knee", "hip", "extremity"]),
            "view": st.sampled_from(["AP", "unknown", "frontal"]),
            "attributes": st.just({"InstanceNumber": {"range": {"max": 2}}}),
            "stop": st.booleans(),
        },
    ),
    min_size=1,
    max_size=4,
)


@given(ITEMS, WHENS, st.randoms(use_true_random=False))
def test_a_decision_holds_together_and_does_not_depend_on_the_order_of_the_images(
    headers: list[dict[str, Any]], whens: list[dict[str, Any]], random: Any
) -> None:
    items = [image(f"1.2.3.1.{n}", **header) for n, header in enumerate(headers)]
    routes = [route(f"r{n}", f"p{n % 2}", **dict(when)) for n, when in enumerate(whens)]
    specs = {"p0": pipeline(when={"view": "AP"}), "p1": pipeline("volume", min_instances=2)}
    decision = decided(routes, items, specs)
    for judged in decision.routes:
        placed = [item for group in judged.groups for item in group.instances]
        assert judged.skipped or sorted(uids(placed)) == sorted(uids(items))
        assert judged.matched == any(group.matched for group in judged.groups)
        for group in judged.groups:
            assert group.matched == (
                not group.excluded and all(verdict.holds for verdict in group.verdicts)
            )
    assert (decision.unrouted_reason is None) == bool(decision.jobs)
    ours = {i.sop_instance_uid for i in items if i.attributes["Modality"] == "SR"} | {
        i.sop_instance_uid for i in items if i.attributes["ManufacturerModelName"] != "XR 220"
    }
    for job in decision.jobs:
        assert job.instances
        assert not ours & set(uids(job.instances))
    shuffled = list(items)
    random.shuffle(shuffled)
    assert decided(routes, shuffled, specs) == decision
