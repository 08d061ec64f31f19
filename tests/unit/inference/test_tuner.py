"""What `pipelines tune` chooses, and when a choice does not hold any more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dicom_node.demo.selftest import simulated_job
from dicom_node.errors import PipelineError, StoreError
from dicom_node.inference.bundles import load_bundle
from dicom_node.inference.tuner import EXACT, OPTIONS, Trial, best, differences, job_of, trials
from dicom_node.inference.tuning import Tuning, forget_tuning, save_tuning, tuning_of
from dicom_node.model.own_codes import WRONG_VIEW
from dicom_node.model.targets import Rejection
from tests.factories import radiograph
from tests.unit.inference.tiny_bundles import write_bundle

CPU = torch.device("cpu")
DEFAULT, ROUGH = Tuning(), Tuning(bfloat16=True)


@pytest.mark.parametrize(
    ("rough", "differs", "chosen"),
    [
        ((5.0, 0.5, 0.5), (), ROUGH),
        ((5.0, 0.5, 0.5), ("another answer",), DEFAULT),
        ((9.8, 0.98, 0.98), (), DEFAULT),
        # the fastest by its median, and by chance
        ((5.0, 0.5, 1.5), (), DEFAULT),
    ],
)
def test_the_fastest_that_changes_nothing_is_chosen_if_it_is_worth_it(
    rough: tuple[float, ...], differs: tuple[str, ...], chosen: Tuning
) -> None:
    # the machine was busy in the first round
    found = [
        Trial(EXACT, (20, 2, 2), ()),
        Trial(DEFAULT, (10, 1, 1), ()),
        Trial(ROUGH, rough, differs),
    ]
    assert best(found).tuning == chosen


def test_where_the_default_changes_findings_the_exact_one_is_chosen() -> None:
    found = [Trial(EXACT, (2,), ()), Trial(DEFAULT, (1,), ("another answer",))]
    assert best(found).tuning == EXACT


def test_each_option_runs_the_study_in_every_round(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path))
    shown: list[float] = []
    with simulated_job(bundle) as (job, _):
        found = trials(bundle, CPU, job, 2, lambda share, _: shown.append(share))
    assert [trial.tuning for trial in found] == list(OPTIONS)
    assert all(len(trial.rounds) == 2 and not trial.differs for trial in found[:4])
    assert shown == sorted(shown)
    assert shown[-1] < 1


def test_a_study_in_which_nothing_is_evaluated_compares_nothing(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path))
    with simulated_job(bundle) as (job, _):
        declined = replace(job, rejection=Rejection(WRONG_VIEW, "it is a lateral view"))
        with pytest.raises(PipelineError, match="evaluated nothing"):
            trials(bundle, CPU, declined, 1)


def test_a_folder_of_files_becomes_a_job(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="no files"):
        job_of(tmp_path)
    radiograph(study="1.2.3").save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert [facts.study_instance_uid for facts in job_of(tmp_path).facts] == ["1.2.3"]
    (tmp_path / "b.txt").write_text("no image")
    with pytest.raises(PipelineError, match=r"b\.txt"):
        job_of(tmp_path)


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
    assert forget_tuning(tmp_path / "tuning", bundle.name)
    assert not forget_tuning(tmp_path / "tuning", bundle.name)


def test_a_choice_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path))
    (tmp_path / "tuning").write_text("a file")
    with pytest.raises(StoreError, match="tuning"):
        save_tuning(tmp_path / "tuning", bundle, CPU, ROUGH, {})
