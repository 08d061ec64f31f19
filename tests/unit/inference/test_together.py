"""Several jobs in one run: the same findings, and one that fails takes no other with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from dicom_node.errors import PipelineError
from dicom_node.inference.bundles import load_bundle
from dicom_node.inference.jobs import JobInput
from dicom_node.inference.loaded import LoadedPipeline
from dicom_node.inference.tuning import Tuning
from dicom_node.model.findings import Classification, Finding, NotEvaluated, Saliency
from tests.factories import radiograph
from tests.unit.inference.job_files import STARTED, job, spot
from tests.unit.inference.tiny_bundles import parts, write_bundle

torch.set_num_threads(1)
CPU = torch.device("cpu")


def numbers(items: Sequence[Finding]) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for item in items:
        if isinstance(item, Classification):
            found.append((item.subject.name, pytest.approx(item.probabilities, abs=1e-6)))
        elif isinstance(item, Saliency):
            found.append((item.subject.name, pytest.approx(item.map, abs=1e-5)))
        elif isinstance(item, NotEvaluated):
            found.append((item.subject.name, item.text))
    return found


def plain(items: Sequence[Finding]) -> list[tuple[str, object]]:
    kinds = {Classification: "probabilities", Saliency: "map", NotEvaluated: "text"}
    return [(item.subject.name, getattr(item, kinds[type(item)])) for item in items]


@pytest.fixture
def jobs(tmp_path: Path) -> list[JobInput]:
    """Eight jobs: one of two images, one that has no pixels, the others of one image."""
    made = [
        job(tmp_path / str(n), [radiograph(spot(20 + 8 * n, 100 - 8 * n), ImageLaterality="R")])
        for n in range(6)
    ]
    several = [
        radiograph(spot(30, 90), InstanceNumber=n, ImageLaterality=s)
        for n, s in ((1, "R"), (2, "L"))
    ]
    broken = radiograph(spot(30, 90))
    del broken.PixelData
    return [*made, job(tmp_path / "two", several), job(tmp_path / "broken", [broken])]


@pytest.mark.parametrize("at_once", [1, 3, 8])
@pytest.mark.parametrize("channels_last", [False, True])
def test_findings_of_jobs_that_run_together_are_those_of_each_alone(
    tmp_path: Path, jobs: list[JobInput], at_once: int, channels_last: bool
) -> None:
    bundle = load_bundle(write_bundle(tmp_path / "b", inference=parts(locator="halves")))
    alone = LoadedPipeline(bundle, CPU, Tuning(channels_last=False, folded=False), at_once=1)
    together = LoadedPipeline(bundle, CPU, Tuning(channels_last), at_once=at_once)
    expected = [alone.run(one) for one in jobs]
    found = list(together.run_many(jobs))
    assert len(found) == len(jobs)
    for one, other in zip(expected, found, strict=True):
        assert plain(other.findings.items) == numbers(one.findings.items)
        assert other.findings.statement == one.findings.statement
        assert other.pictures.keys() == one.pictures.keys()


def test_a_job_that_fails_takes_none_before_it_along(tmp_path: Path, jobs: list[JobInput]) -> None:
    bundle = load_bundle(write_bundle(tmp_path / "b", inference=parts()))
    outcomes = LoadedPipeline(bundle, CPU, at_once=1).run_many(
        [jobs[0], jobs[1], JobInput((), (), None, STARTED)]
    )
    assert next(outcomes).findings.evaluated
    assert next(outcomes).findings.evaluated
    with pytest.raises(PipelineError, match="no images"):
        next(outcomes)


def test_a_record_says_what_the_numbers_depend_on_and_how_long_each_stage_took(
    tmp_path: Path, jobs: list[JobInput]
) -> None:
    bundle = load_bundle(write_bundle(tmp_path / "b", inference=parts()))
    record = LoadedPipeline(bundle, CPU).run(jobs[0]).record
    assert (record["device"], record["precision"], record["channels_last"]) == (
        "cpu",
        "float32",
        True,
    )
    assert {"torch", "monai", "dicom_node", "threads", "weights_sha256"} <= record.keys()
    stages = ["decode", "locate", "preprocess", "network", "postprocess", "saliency"]
    assert list(record["seconds"]) == stages


def test_bfloat16_is_recorded_and_gives_nearly_the_same(
    tmp_path: Path, jobs: list[JobInput]
) -> None:
    bundle = load_bundle(write_bundle(tmp_path / "b", inference=parts()))
    exact = LoadedPipeline(bundle, CPU).run(jobs[0])
    rough = LoadedPipeline(bundle, CPU, Tuning(bfloat16=True)).run(jobs[0])
    assert rough.record["precision"] == "bfloat16"
    one, other = exact.findings.items[0], rough.findings.items[0]
    assert isinstance(one, Classification)
    assert isinstance(other, Classification)
    assert other.probabilities == pytest.approx(one.probabilities, abs=0.02)
    assert isinstance(rough.findings.items[1], Saliency)
    assert np.isfinite(rough.findings.items[1].map).all()
