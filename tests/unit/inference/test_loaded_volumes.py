"""A bundle for volumes, from CT files to Findings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dicom_node.errors import PipelineError
from dicom_node.inference.bundles import load_bundle
from dicom_node.inference.loaded import LoadedPipeline
from dicom_node.model import own_codes
from dicom_node.model.findings import Classification, Measurement, NotEvaluated, Region, Side
from dicom_node.model.targets import Rejection
from tests.unit.inference import tiny_parts
from tests.unit.inference.ct_files import enhanced, series
from tests.unit.inference.job_files import job
from tests.unit.inference.tiny_bundles import VOLUME, parts, write_bundle

torch.set_num_threads(1)
HEIGHTS = [30.0, 33.0, 36.0, 39.0, 42.0]


def pipeline(folder: Path, **names: Any) -> LoadedPipeline:
    made = {
        "preprocessing": "MiddleSlices",
        "postprocessing": "Density",
        "locator": "two_levels",
        **names,
    }
    bundle = write_bundle(folder, spec=VOLUME, inference=parts(**made))
    return LoadedPipeline(load_bundle(bundle), torch.device("cpu"))


def mean_of(*heights: float) -> float:
    """Mean HU of the slices at these heights (see `ct_files.slice_values`)."""
    return float(np.mean([(10 * 14 * h - 24) / 480 for h in heights]))


def test_each_level_gets_its_number_region_and_slices(tmp_path: Path) -> None:
    slices = series(HEIGHTS)
    findings = pipeline(tmp_path).run(job(tmp_path / "in", slices[::-1])).findings
    upper, roi, lower, _, refused, summary, by_threshold = findings.items
    assert isinstance(upper, Measurement)
    assert isinstance(lower, Measurement)
    assert isinstance(roi, Region)
    assert upper.value == pytest.approx(mean_of(36, 39), abs=1e-3)
    assert lower.value == pytest.approx(mean_of(33, 36), abs=1e-3)
    assert [r.sop_instance_uid for r in upper.subject.images] == [
        slices[2].SOPInstanceUID,
        slices[3].SOPInstanceUID,
    ]
    assert roi.mask.shape == (2, 20, 24)
    assert isinstance(refused, NotEvaluated)
    assert refused.subject.name == "L3"
    assert isinstance(summary, Measurement)
    assert summary.value == pytest.approx((upper.value + lower.value) / 2)
    assert summary.method == "mean over L1, L2"
    assert len(summary.subject.images) == 3
    assert isinstance(by_threshold, Classification)
    assert (by_threshold.labels[by_threshold.predicted].text, max(by_threshold.probabilities)) == (
        "low",
        1.0,
    )
    assert findings.statement == (
        "L1: 11 HU. L2: 10 HU. L3: not evaluated: a screw is near. L1-L3: 10 HU, low."
    )
    assert len(findings.images) == len(HEIGHTS)


def test_every_slice_that_was_used_has_a_picture(tmp_path: Path) -> None:
    slices = series(HEIGHTS)
    outcome = pipeline(tmp_path).run(job(tmp_path / "in", slices))
    assert set(outcome.pictures) == {s.SOPInstanceUID for s in slices}
    assert outcome.pictures[slices[0].SOPInstanceUID].shape == (20, 24)


def test_frames_of_an_enhanced_ct_are_referred_to_by_number(tmp_path: Path) -> None:
    outcome = pipeline(tmp_path).run(job(tmp_path / "in", [enhanced(HEIGHTS)]))
    first = outcome.findings.items[0]
    assert [r.frame for r in first.subject.images] == [3, 4]
    assert set(outcome.pictures) == {r.key for r in outcome.findings.images}


def test_two_series_are_evaluated_apart(tmp_path: Path) -> None:
    thin, thick = series(HEIGHTS), series(HEIGHTS, series_uid="1.2.3.2", SeriesNumber=2)
    findings = pipeline(tmp_path).run(job(tmp_path / "in", [*thin, *thick])).findings
    names = [f.subject.name for f in findings.items if isinstance(f, Measurement)]
    assert names == [
        "L1 (series 1)",
        "L2 (series 1)",
        "L1-L3 (series 1)",
        "L1 (series 2)",
        "L2 (series 2)",
        "L1-L3 (series 2)",
    ]


def test_too_few_levels_make_no_summary(tmp_path: Path) -> None:
    findings = pipeline(tmp_path, locator="rejecting").run(job(tmp_path / "in", series(HEIGHTS)))
    assert [type(f) for f in findings.findings.items] == [NotEvaluated]


def test_a_series_with_a_gap_is_not_evaluated_and_shown_by_its_middle_slice(
    tmp_path: Path,
) -> None:
    slices = series([30.0, 33.0, 36.0, 42.0, 45.0])
    outcome = pipeline(tmp_path).run(job(tmp_path / "in", slices))
    (item,) = outcome.findings.items
    assert isinstance(item, NotEvaluated)
    assert item.reason == own_codes.UNFIT_GEOMETRY
    assert (item.subject.name, item.subject.side) == ("lumbar spine", Side.NONE)
    assert len(item.subject.images) == 5
    assert set(outcome.pictures) == {slices[2].SOPInstanceUID}


def test_a_slice_without_pixels_makes_the_series_unreadable(tmp_path: Path) -> None:
    slices = series(HEIGHTS)
    del slices[2].PixelData
    (item,) = pipeline(tmp_path).run(job(tmp_path / "in", slices)).findings.items
    assert isinstance(item, NotEvaluated)
    assert item.reason == own_codes.UNREADABLE


def test_what_was_left_out_is_noted(tmp_path: Path) -> None:
    localizer = series([99.0], first=90, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    findings = pipeline(tmp_path).run(job(tmp_path / "in", [*localizer, *series(HEIGHTS)])).findings
    assert findings.notes == ("1 images left out: localizer",)
    assert localizer[0].SOPInstanceUID not in [r.sop_instance_uid for r in findings.images]


def test_a_job_that_routing_rejected_is_not_read_but_for_its_picture(tmp_path: Path) -> None:
    slices = series(HEIGHTS)
    why = Rejection(own_codes.CONTRAST_GIVEN, "contrast was given")
    outcome = pipeline(tmp_path).run(job(tmp_path / "in", slices, why))
    (item,) = outcome.findings.items
    assert isinstance(item, NotEvaluated)
    assert item.reason == own_codes.CONTRAST_GIVEN
    assert set(outcome.pictures) == {slices[2].SOPInstanceUID}


def test_slices_that_the_volume_lacks_are_the_locator_s_mistake(tmp_path: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        pipeline(tmp_path).run(job(tmp_path / "in", series(HEIGHTS[:2])))
    assert tiny_parts.__name__ not in str(caught.value)
    assert "pipeline tiny" in caught.value.what
