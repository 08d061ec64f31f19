"""The bundle with the weights that ship."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import pipelines.lumbar_bmd_ct
from dicom_node.model.own_codes import OWN_CODES
from dicom_node.model.pipeline import PipelineSpec
from dicom_node.routing.conditions import judge
from dicom_node.routing.reading import Reading
from pipelines.lumbar_bmd_ct.anatomy import load_folder
from pipelines.lumbar_bmd_ct.bundle import Bundle, load_bundle, run
from pipelines.lumbar_bmd_ct.evaluate import evaluate_volume
from tests.factories import facts
from tests.unit.pipelines.lumbar_cases import phantom

torch.set_num_threads(1)
FOLDER = Path(pipelines.lumbar_bmd_ct.__file__).parent
WEIGHTS = FOLDER.parents[1] / "weights"
FINE: dict[str, Any] = {"spacing": (1.6, 1.6, 3.0), "size": 240, "slices": 100}


def _entry() -> dict[str, Any]:
    entry: dict[str, Any] = yaml.safe_load((WEIGHTS / "manifest.yaml").read_text())["lumbar_bmd_ct"]
    return entry


@cache
def _bundle() -> Bundle:
    return load_bundle(WEIGHTS / _entry()["file"])


def test_the_weights_are_those_of_the_manifest() -> None:
    file = WEIGHTS / _entry()["file"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == _entry()["sha256"]
    assert file.stat().st_size < 40 * 2**20
    assert _entry()["demonstration"] is True
    assert (WEIGHTS / _entry()["card"]).is_file()


def test_every_own_code_of_the_pipeline_is_in_the_node_s_list() -> None:
    def own(value: Any) -> list[dict[str, str]]:
        if isinstance(value, dict):
            here = [value] if value.get("scheme") == "99DCMNODE" else []
            return here + [c for v in value.values() for c in own(v)]
        if isinstance(value, list):
            return [c for v in value for c in own(v)]
        return []

    text = (FOLDER / "configs" / "dicom.yaml").read_text(encoding="utf-8")
    found = own(yaml.safe_load(text))
    assert found
    for code in found:
        assert OWN_CODES[code["value"]].meaning == code["meaning"]


def test_postprocessing_makes_every_output_that_dicom_yaml_names() -> None:
    spec = PipelineSpec.model_validate(
        yaml.safe_load((FOLDER / "configs" / "dicom.yaml").read_text(encoding="utf-8"))
    )
    made = phantom(21, 100.0, **FINE)
    levels, _ = run(_bundle(), made.volume, made.affine)
    data = levels["L2"]
    for output in spec.outputs:
        assert output.key in data
        key = getattr(output, "uncertainty_key", None)
        assert key is None or data[key] > 0


@pytest.mark.parametrize("bmd", [60.0, 150.0])
def test_the_bmd_that_was_put_in_is_found_at_all_four_levels(bmd: float) -> None:
    made = phantom(21, bmd, **FINE)
    levels, refused = run(_bundle(), made.volume, made.affine)
    assert not refused
    assert list(levels) == ["L1", "L2", "L3", "L4"]
    for name, data in levels.items():
        error = np.subtract(data["target"].extras["centre"], made.truth.centres[name])
        assert np.linalg.norm(error * made.spacing) < 8
        assert data["bmd"] == pytest.approx(made.truth.bmd[name], abs=15)
        assert data["hu"] == pytest.approx(made.truth.hu[name], abs=12)


def test_the_same_volume_gives_the_same_numbers() -> None:
    made = phantom(21, 60.0, **FINE)
    first, _ = run(_bundle(), made.volume, made.affine)
    again, _ = run(_bundle(), made.volume, made.affine)
    assert [d["bmd"] for d in first.values()] == [d["bmd"] for d in again.values()]


def test_a_volume_without_the_sacrum_is_not_counted() -> None:
    made = phantom(21, 100.0, **{**FINE, "slices": 80}, bottom_mm=42.0)
    levels, refused = run(_bundle(), made.volume, made.affine)
    assert not levels
    assert [r.reason.value for r in refused] == ["level-uncertain"]


def test_bright_vessels_are_refused() -> None:
    made = phantom(21, 100.0, **FINE, enhancement_hu=110.0)
    _, refused = run(_bundle(), made.volume, made.affine)
    assert [r.reason.value for r in refused] == ["contrast-given"]


@pytest.mark.parametrize(
    ("kind", "taken"),
    [
        (["ORIGINAL", "PRIMARY", "AXIAL"], True),
        (["DERIVED", "PRIMARY", "AXIAL", "VMI"], False),
        (["DERIVED", "SECONDARY", "AXIAL", "MAT_REMOVED"], False),
    ],
)
def test_what_a_multi_energy_ct_makes_of_its_values_is_not_taken(
    kind: list[str], taken: bool
) -> None:
    """Those of a 40 keV image are about twice as high, and its KVP is empty (PS3.17 JJJJ)."""
    when = PipelineSpec.model_validate(
        yaml.safe_load((FOLDER / "configs" / "dicom.yaml").read_text())
    ).input.when
    item = facts(Modality="CT", ImageType=kind)
    verdicts = judge(when, item, {}, Reading(item.attributes, item.sop_class_uid))
    assert all(verdict.holds for verdict in verdicts) is taken


def test_air_has_no_spine() -> None:
    levels, refused = run(_bundle(), np.full((64, 64, 60), -1000.0), np.diag([-3.0, -3, 3, 1]))
    assert not levels
    assert [r.reason.value for r in refused] == ["level-uncertain"]


def test_levels_of_the_real_ct_are_right(shared: Path) -> None:
    anatomy = load_folder(shared / "ct_lumbar")[0]
    row = evaluate_volume(_bundle(), anatomy, (4.5,))
    assert not row["refused"]
    assert list(row["levels"]) == ["L1", "L2", "L3", "L4"]
    for found in row["levels"].values():
        assert found["centre_error_mm"] < 6
        assert found["dice"] > 0.85
        assert found["hu"] == pytest.approx(found["mask_hu_eroded_4.5_mm"], abs=8)
