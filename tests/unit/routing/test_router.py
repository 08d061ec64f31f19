"""Which pipelines run on which images, for whom; what is never routed; and why nothing runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import BasicTextSRStorage

from dicom_node.model.own_output import OWN_MODEL_NAME
from dicom_node.routing import anatomy
from tests.factories import facts
from tests.unit.routing.decisions import ct, decided, image, route, uids
from tests.unit.routing.pipeline_specs import pipeline


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


def test_the_images_of_a_job_stand_in_the_order_of_series_and_number() -> None:
    slices = [ct(n) for n in range(1, 13)]
    (job,) = decided([route("everything")], slices[::-1]).jobs
    assert uids(job.instances) == uids(slices)


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
