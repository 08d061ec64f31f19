"""What marks our own objects, so that they are never analysed."""

from __future__ import annotations

import pytest

from dicom_node.model.own_output import OWN_MODEL_NAME, is_own_output


@pytest.mark.parametrize("name", [OWN_MODEL_NAME, "DICOM-NODE", " dicom-node "])
def test_our_model_name_in_any_spelling_is_ours(name: str) -> None:
    assert is_own_output({"ManufacturerModelName": name})


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"ManufacturerModelName": ""},
        {"ManufacturerModelName": "dicom-node 2000 X-ray"},
        {"Manufacturer": OWN_MODEL_NAME},
        {"ManufacturerModelName": 7},
    ],
)
def test_anything_else_is_not(attributes: dict[str, object]) -> None:
    assert not is_own_output(attributes)
