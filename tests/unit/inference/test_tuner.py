"""What `pipelines tune` chooses, and when a choice does not hold any more."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dicom_node.inference.bundles import load_bundle
from dicom_node.inference.tuner import EXACT, Trial, best, differences
from dicom_node.inference.tuning import Tuning, save_tuning, tuning_of
from tests.unit.inference.tiny_bundles import write_bundle

CPU = torch.device("cpu")
DEFAULT, ROUGH = Tuning(), Tuning(bfloat16=True)


@pytest.mark.parametrize(
    ("rough", "differs", "chosen"),
    [(0.5, (), ROUGH), (0.5, ("another answer",), DEFAULT), (0.98, (), DEFAULT)],
)
def test_the_fastest_that_changes_nothing_is_chosen_if_it_is_worth_it(
    rough: float, differs: tuple[str, ...], chosen: Tuning
) -> None:
    found = [Trial(EXACT, 2, ()), Trial(DEFAULT, 1, ()), Trial(ROUGH, rough, differs)]
    assert best(found).tuning == chosen


def test_findings_differ_by_more_than_the_tolerance_or_in_their_answer() -> None:
    exact = {"class grade of knee": [0.504, 0.496], "value bmd of L1": [100.0]}
    assert differences(exact, {**exact, "value bmd of L1": [100.4]}) == []
    assert differences(exact, {**exact, "value bmd of L1": [101.0]}) == [
        "value bmd of L1: 101 instead of 100"
    ]
    assert differences(exact, {**exact, "class grade of knee": [0.497, 0.503]}) == [
        "class grade of knee: another answer"
    ]
    assert differences(exact, {"value bmd of L1": [100.0]}) == ["class grade of knee is missing"]


def test_a_choice_holds_for_what_it_was_made_for(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path))
    assert tuning_of(tmp_path / "tuning", bundle, CPU) == DEFAULT
    file = save_tuning(tmp_path / "tuning", bundle, CPU, ROUGH, {})
    assert tuning_of(tmp_path / "tuning", bundle, CPU) == ROUGH
    file.write_text(file.read_text().replace(torch.__version__, "0.1"))
    assert tuning_of(tmp_path / "tuning", bundle, CPU) == DEFAULT
    file.write_text("{")
    assert tuning_of(tmp_path / "tuning", bundle, CPU) == DEFAULT
