"""Every built-in bundle has the metadata that MONAI's schema asks for, and passes the check."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from monai.bundle import ConfigParser

from dicom_node.inference.bundles import BUILT_IN, find_bundles
from dicom_node.inference.spec_check import contradictions

NAMES = [
    "hip_fixation_device",
    "knee_kl_ensemble",
    "knee_osteoporosis_resnet50",
    "knee_osteoporosis_superfluity",
    "lumbar_bmd_ct",
]

# `required` of MONAI's meta_schema (metadata.json of a bundle)
REQUIRED = {
    "version",
    "changelog",
    "monai_version",
    "pytorch_version",
    "numpy_version",
    "required_packages_version",
    "task",
    "description",
    "authors",
    "copyright",
    "network_data_format",
}
REQUIRED_OF_A_TENSOR = {
    "type",
    "format",
    "num_channels",
    "spatial_shape",
    "dtype",
    "value_range",
    "is_patch_data",
}


@pytest.mark.parametrize("name", NAMES)
def test_metadata_is_complete(name: str) -> None:
    metadata = json.loads((BUILT_IN / name / "configs" / "metadata.json").read_text())
    assert metadata.keys() >= REQUIRED
    assert metadata["version"] in metadata["changelog"]
    shape = metadata["network_data_format"]
    for tensor in [*shape["inputs"].values(), *shape["outputs"].values()]:
        assert tensor.keys() >= REQUIRED_OF_A_TENSOR


@pytest.mark.parametrize("name", NAMES)
def test_the_version_is_the_one_of_the_weights(name: str) -> None:
    metadata = json.loads((BUILT_IN / name / "configs" / "metadata.json").read_text())
    assert find_bundles()[name].version == metadata["version"]


@pytest.mark.parametrize("name", NAMES)
def test_dicom_yaml_contradicts_itself_nowhere(name: str) -> None:
    assert not list(contradictions(find_bundles()[name].spec))


@pytest.mark.parametrize("name", NAMES)
def test_every_part_of_the_configuration_can_be_found(name: str) -> None:
    file = BUILT_IN / name / "configs" / "inference.yaml"
    parser = ConfigParser()
    parser.read_config(str(file))
    for target in _targets(yaml.safe_load(file.read_text(encoding="utf-8"))):
        if "." in target:
            module, _, attribute = target.rpartition(".")
            assert hasattr(__import__(module, fromlist=[attribute]), attribute)


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_says_how_to_train_and_evaluate(name: str) -> None:
    text = (BUILT_IN / name / "docs" / "README.md").read_text(encoding="utf-8")
    for verb in ("train", "evaluate"):
        ways = (f"python -m pipelines.{name}.{verb}", f"dicom-node pipelines {verb} {name}")
        assert any(way in text for way in ways), verb


def _targets(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "_target_" in value:
            yield value["_target_"]
        for inner in value.values():
            yield from _targets(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _targets(inner)
