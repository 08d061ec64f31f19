"""Golden inputs: a pipeline that answers otherwise than when it was released is found out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from dicom_node.errors import PipelineError
from dicom_node.inference import golden
from dicom_node.inference.bundles import BUILT_IN, load_bundle
from dicom_node.inference.loaded import LoadedPipeline
from dicom_node.inference.trust import trust
from tests.unit.inference.job_files import spot
from tests.unit.inference.tiny_bundles import write_bundle

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle with a golden input whose answers are those of today."""
    torch.set_num_threads(1)
    bundle = write_bundle(tmp_path)
    np.save(bundle / "configs" / "golden.npy", spot(30, 90).astype(np.float32) / 4095)
    trust(bundle)
    spec = golden.GoldenSpec(array="golden.npy", attributes={"ImageLaterality": "R"})
    file = bundle / "configs" / "selftest.yaml"
    file.write_text(golden.written(LoadedPipeline(load_bundle(bundle), CPU), spec))
    trust(bundle)
    return bundle


def differs(folder: Path) -> golden.Deviations:
    return golden.deviations(LoadedPipeline(load_bundle(folder), CPU))


def change(folder: Path, **changes: object) -> None:
    file = folder / "configs" / "selftest.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **changes}))
    trust(folder)


def test_a_pipeline_that_answers_as_it_did_has_no_deviation(folder: Path) -> None:
    assert differs(folder) == []


def test_other_numbers_are_a_deviation_that_says_which(folder: Path) -> None:
    change(folder, expected={"class brightness of right knee": [0.6, 0.4]})
    (text,) = differs(folder) or []
    assert text.startswith("class brightness of right knee is ")
    assert text.endswith(" instead of 0.6, 0.4")


def test_a_subject_that_is_missing_or_new_is_a_deviation(folder: Path) -> None:
    change(folder, expected={"class brightness of left knee": [0.0, 1.0]})
    assert differs(folder) == [
        "class brightness of left knee is missing",
        "class brightness of right knee was not expected",
    ]


def test_of_other_weights_nothing_is_known(folder: Path) -> None:
    change(folder, weights_sha256="0" * 64)
    assert differs(folder) is None


def test_a_pipeline_without_a_golden_input_is_not_tested(tmp_path: Path) -> None:
    assert differs(write_bundle(tmp_path)) is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"array": "lost.npy"}, "lost.npy cannot be read"),
        ({"array": None, "phantom": "os.system"}, "its phantom is none of"),
        ({"array": None, "phantom": "pipelines.phantoms.knee.lost"}, "cannot be drawn"),
        ({"word": 1}, "it cannot be read: ValidationError"),
    ],
)
def test_a_wrong_golden_input_says_so(folder: Path, changes: dict[str, object], why: str) -> None:
    change(folder, **changes)
    with pytest.raises(PipelineError, match=why):
        differs(folder)


@pytest.mark.parametrize("name", ["knee_kl_ensemble", "hip_fixation_device"])
def test_a_shipped_pipeline_passes_its_selftest(name: str) -> None:
    torch.set_num_threads(1)
    assert differs(BUILT_IN / name) == []
