"""Which series of a study is read."""

from __future__ import annotations

from typing import Any

import pytest

from dicom_node.model.targets import SeriesCandidate
from pipelines.transforms.lumbar_kernels import is_sharp
from pipelines.transforms.lumbar_series import SeriesChooser


def _series(number: int, **changes: Any) -> SeriesCandidate:
    facts: dict[str, Any] = {
        "images": 100,
        "problem": None,
        "spacing_mm": 3.0,
        "coverage_mm": 300.0,
        "axial": True,
    }
    header = {"SeriesNumber": number, "ConvolutionKernel": "STANDARD"}
    header |= {k: changes.pop(k) for k in list(changes) if k[0].isupper()}
    return SeriesCandidate(attributes=header, **{**facts, **changes})


@pytest.mark.parametrize(
    ("worse", "why"),
    [
        ({"axial": False}, "not axial"),
        ({"ContrastBolusAgent": "Iomeron"}, "contrast"),
        ({"ContrastBolusVolume": 90.0}, "contrast"),
        ({"spacing_mm": 8.0}, "8.0 mm"),
        ({"SliceThickness": 7.0}, "7.0 mm"),
        ({"ConvolutionKernel": "LUNG"}, "sharp"),
        ({"coverage_mm": 60.0}, "only 60 mm"),
        ({"problem": "slices are missing"}, "slices are missing"),
        ({"spacing_mm": 1.0}, "less suitable"),
        ({"coverage_mm": 200.0}, "less suitable"),
    ],
)
def test_the_better_series_is_chosen_wherever_it_stands(worse: dict[str, Any], why: str) -> None:
    for order in (0, 1):
        pair = [_series(4), _series(7, **worse)][:: 1 if order == 0 else -1]
        choice = SeriesChooser()(pair)
        assert choice.index == order
        assert choice.why.startswith("series 4 was read of 2")
        assert f"series 7: {why}" in choice.why or why in choice.why


def test_a_volume_with_faults_goes_before_none_at_all() -> None:
    broken = _series(1, problem="too few", spacing_mm=0.0, coverage_mm=0.0)
    enhanced = _series(2, ContrastBolusAgent="yes", ConvolutionKernel="B80s", spacing_mm=7.0)
    assert SeriesChooser()([broken, enhanced]).index == 1


@pytest.mark.parametrize("kernel", ["B70f", "Br64d", "Bl57", "FC51", "FC30", "LUNG", "BONEPLUS"])
def test_sharp_kernels_are_known(kernel: str) -> None:
    assert is_sharp(kernel)


@pytest.mark.parametrize("kernel", ["B30f", "Br40d", "FC08", "FC18", "STANDARD", "SOFT", "B", ""])
def test_soft_kernels_are_let_pass(kernel: str) -> None:
    assert not is_sharp(kernel)
