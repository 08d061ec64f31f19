"""What a bundle returns, as Findings and sentences; nonsense is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.errors import PipelineError
from dicom_node.inference.grid import Grid
from dicom_node.inference.naming import told_apart
from dicom_node.inference.outputs import findings_of, summary_of
from dicom_node.inference.statement import statement_of
from dicom_node.model.codes import Code
from dicom_node.model.findings import (
    Classification,
    Finding,
    ImageReference,
    Measurement,
    NotEvaluated,
    Region,
    Side,
    Subject,
)
from dicom_node.model.pipeline import PipelineSpec
from dicom_node.model.targets import Target
from tests.unit.inference.tiny_bundles import CLASSIFIER, REGRESSION, VOLUME

KNEE = Code("72696002", "SCT", "Knee")
GRID = Grid(None, (ImageReference("1.2", "1.2.3.0", "1.2.4"),), None)
IMAGE = ImageReference("1.2", "1.2.3", "1.2.4")


def subject(name: str = "right knee", images: int = 1) -> Subject:
    found = tuple(ImageReference("1.2", f"1.2.3.{n}", "1.2.4") for n in range(images))
    return Subject(name, KNEE, Side.RIGHT, found)


def spec(source: dict[str, Any], **changes: Any) -> PipelineSpec:
    return PipelineSpec.model_validate({**source, **changes})


def findings(source: dict[str, Any], data: dict[str, Any], **target: Any) -> list[Finding]:
    place = Target("right knee", **target)
    return findings_of(spec(source), subject(), place, data, (40, 60), GRID)


def classified(data: dict[str, Any]) -> Classification:
    (found,) = findings(CLASSIFIER, data)
    assert isinstance(found, Classification)
    return found


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=2), st.booleans())
def test_probabilities_sum_to_one_and_the_largest_is_the_answer(
    weights: list[float], tensor: bool
) -> None:
    values = np.array(weights) / sum(weights)
    found = classified({"probabilities": torch.tensor(values) if tensor else values, "set": [0, 1]})
    assert sum(found.probabilities) == pytest.approx(1, abs=1e-12)
    assert found.probabilities[found.predicted] == max(found.probabilities)
    assert found.probabilities[found.prediction_set[0]] == max(found.probabilities)
    assert sorted(found.prediction_set) == [0, 1]


@pytest.mark.parametrize(
    "values",
    [[0.5, 0.6], [0.4, 0.4], [1.2, -0.2], [np.nan, 1.0], [1.0], [0.2, 0.3, 0.5], [np.inf, 0.0]],
)
def test_what_is_no_probability_is_refused(values: list[float]) -> None:
    with pytest.raises(PipelineError, match="not one probability for each of 2 labels"):
        classified({"probabilities": values, "set": [0]})


@pytest.mark.parametrize("members", [[2], [-1], [0, 0]])
def test_a_prediction_set_of_unknown_labels_is_refused(members: list[int]) -> None:
    with pytest.raises(PipelineError, match="indices of labels"):
        classified({"probabilities": [0.4, 0.6], "set": members})


def test_a_missing_key_is_named() -> None:
    with pytest.raises(PipelineError, match="output set: postprocessing did not make it"):
        classified({"probabilities": [0.4, 0.6]})


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"value": np.nan}, "not one finite number"),
        ({"value": [1.0, 2.0]}, "not one finite number"),
        ({"value": np.inf}, "not one finite number"),
        ({"value_sd": -1.0}, "negative"),
        ({"value_sd": np.nan}, "not one finite number"),
        ({"value": 1e6}, "outside of its plausible range"),
        ({"mask": np.zeros((3, 40, 60))}, "does not fit the source"),
        ({"mask": np.zeros(7)}, "does not fit the source"),
    ],
)
def test_a_number_or_mask_that_makes_no_sense_is_refused(data: dict[str, Any], why: str) -> None:
    fine = {"value": 1.0, "value_sd": 0.5, "mask": np.zeros((40, 60), bool)}
    assert len(findings(REGRESSION, fine)) == 2
    with pytest.raises(PipelineError, match=why):
        findings(REGRESSION, {**fine, **data})


def test_a_mask_on_the_source_grid_stays_where_it_is() -> None:
    mask = np.zeros((1, 40, 60), bool)
    mask[0, 3, 4] = True
    data = {"value": 1.0, "value_sd": 0.5, "mask": mask}
    region = findings(REGRESSION, data, box=(5, 5, 10, 10), mirror=True)[1]
    assert isinstance(region, Region)
    assert (region.mask == mask[0]).all()


@pytest.mark.parametrize(("mirror", "column"), [(False, 10), (True, 19)])
def test_a_mask_of_the_crop_is_put_into_its_box(mirror: bool, column: int) -> None:
    crop = np.zeros((10, 10), bool)
    crop[2, 0] = True
    data = {"value": 1.0, "value_sd": 0.5, "mask": crop}
    region = findings(REGRESSION, data, box=(10, 5, 10, 10), mirror=mirror)[1]
    assert isinstance(region, Region)
    assert np.argwhere(region.mask).tolist() == [[7, column]]


def measured(name: str, value: float, uncertainty: float | None = None) -> Measurement:
    output = VOLUME["outputs"][0]
    concept, unit = Code(**output["concept"]), Code(**output["unit"])
    return Measurement(subject(name), concept, value, unit, uncertainty)


@pytest.mark.parametrize(
    ("value", "text"), [(99.9, "low"), (100.0, "normal"), (-5.0, "low"), (200.0, "normal")]
)
def test_a_summary_is_classed_by_its_threshold(value: float, text: str) -> None:
    number, by_threshold = summary_of(spec(VOLUME), [measured("L1", value), measured("L2", value)])
    assert isinstance(number, Measurement)
    assert number.value == value
    assert number.uncertainty is None
    assert isinstance(by_threshold, Classification)
    assert by_threshold.labels[by_threshold.predicted].text == text
    assert by_threshold.prediction_set == ()
    assert by_threshold.rule == "these tests"


def test_a_mean_is_no_surer_than_what_it_is_the_mean_of() -> None:
    number = summary_of(spec(VOLUME), [measured("L1", 90, 4), measured("L2", 110, 4)])[0]
    assert isinstance(number, Measurement)
    assert number.uncertainty == pytest.approx(4)


@pytest.mark.parametrize(
    ("value", "text"),
    [(141.26, "141"), (71.4, "71"), (-2.46, "-2.5"), (0.3456, "0.35"), (0.0, "0"), (1.0, "1.0")],
)
def test_numbers_are_written_as_one_dictates_them(value: float, text: str) -> None:
    items = [measured("L1", value)]
    assert statement_of(spec(VOLUME), items) == f"L1: {text} HU."
    exact = spec(VOLUME, statement="{subject}: {density:.2f}.")
    assert statement_of(exact, items) == f"L1: {value:.2f}."


@pytest.mark.parametrize(
    ("probability", "text"), [(0.999, "> 99 %"), (0.87, "87 %"), (0.5, "50 %")]
)
def test_nothing_uncertain_is_called_certain(probability: float, text: str) -> None:
    found = classified({"probabilities": [1 - probability, probability], "set": [1]})
    assert f"({text};" in statement_of(spec(CLASSIFIER), [found])


def test_each_subject_has_a_sentence_and_one_full_stop() -> None:
    refused = NotEvaluated(subject("left knee"), KNEE, "metal in the joint.")
    found = classified({"probabilities": [0.3, 0.7], "set": [1, 0]})
    assert statement_of(spec(CLASSIFIER), [found, refused]) == (
        "Right knee: bright (70 %; possible: bright, dark). "
        "Left knee: not evaluated: metal in the joint."
    )


_NAMES = st.lists(st.sampled_from(["right knee", "left knee", "L2"]), max_size=3)


@given(st.lists(_NAMES, max_size=4))
def test_names_are_unique_in_a_job_whatever_the_images_hold(images: list[list[str]]) -> None:
    found = [
        (
            f"image {number}",
            [
                NotEvaluated(
                    Subject(name, KNEE, Side.NONE, (IMAGE,), (place, 0, 1, 1)), KNEE, "metal"
                )
                for place, name in enumerate(names)
            ],
        )
        for number, names in enumerate(images)
    ]
    named = [item.subject.name for item in told_apart(found)]
    assert len(named) == sum(map(len, images))
    assert len(set(named)) == len(named)


def test_a_name_that_stands_alone_stays() -> None:
    one, two = measured("right knee", 1.0), measured("left knee", 2.0)
    named = told_apart([("image 1", [one]), ("image 2", [two])])
    assert [item.subject.name for item in named] == ["right knee", "left knee"]
    assert named[0] == one
