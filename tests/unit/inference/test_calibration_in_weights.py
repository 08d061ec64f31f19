"""Numbers that weights bring for the postprocessing: taken in, or refused, never half believed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dicom_node.errors import PipelineError
from dicom_node.inference.bundles import Bundle, find_bundles, load_bundle
from dicom_node.inference.calibration import METADATA_KEY, calibration_of, to_metadata
from dicom_node.inference.parts import build_parts

PLACE = "postprocessing::transforms::0::temperature"


def weights(tmp_path: Path, metadata: dict[str, str] | None) -> Bundle:
    shipped = find_bundles()["hip_fixation_device"]
    file = tmp_path / "w.safetensors"
    save_file(load_file(shipped.weights), file, metadata)
    return load_bundle(shipped.folder, file)


def temperature(bundle: Bundle) -> float:
    parts = build_parts(bundle, torch.device("cpu"))
    return float(parts.postprocessing.transforms[0].temperature)  # type: ignore[attr-defined]


def test_the_weights_own_numbers_are_used(tmp_path: Path) -> None:
    assert temperature(weights(tmp_path, to_metadata({PLACE: 0.25}))) == 0.25


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_without_them_those_of_the_bundle_are(
    tmp_path: Path, metadata: dict[str, str] | None
) -> None:
    assert temperature(weights(tmp_path, metadata)) == temperature(
        find_bundles()["hip_fixation_device"]
    )


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[1]",
        '{"network_def::classes": 2}',
        f'{{"{PLACE}": "NaN"}}',
        f'{{"{PLACE}": "$import os"}}',
    ],
)
def test_anything_but_numbers_of_the_postprocessing_is_refused(tmp_path: Path, text: str) -> None:
    bundle = weights(tmp_path, {METADATA_KEY: text})
    with pytest.raises(PipelineError, match="not made of numbers"):
        calibration_of(bundle.read_weights(), bundle.name)
    with pytest.raises(PipelineError, match="not made of numbers"):
        temperature(bundle)


def test_a_number_for_what_is_not_there_is_refused(tmp_path: Path) -> None:
    bundle = weights(tmp_path, to_metadata({"postprocessing::transforms::7::x": 1.0}))
    with pytest.raises(PipelineError, match="brings a number for"):
        temperature(bundle)
