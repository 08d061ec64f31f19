"""`pipelines list` and `check`: words for a person, JSON for a script, reasons for what fails."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml

from dicom_node.demo import selftest
from dicom_node.errors import PipelineError
from dicom_node.inference.bundles import find_bundles
from tests.unit.cli.command import dicom_node
from tests.unit.serve.small_node import write_config

BUILT_IN = (
    "hip_fixation_device",
    "knee_kl_ensemble",
    "knee_osteoporosis_resnet50",
    "knee_osteoporosis_superfluity",
    "lumbar_bmd_ct",
)


def test_the_list_says_in_words_what_each_takes() -> None:
    ended = dicom_node("pipelines", "list")
    assert ended.status == 0
    lines = ended.lines
    assert lines[0].split() == ["pipeline", "version", "weights"]
    at = next(n for n, line in enumerate(lines) if line.startswith("knee_kl_ensemble"))
    assert "demonstration" in lines[at]
    assert lines[at + 1] == f"    {find_bundles()['knee_kl_ensemble'].spec.title}"
    assert lines[at + 2].startswith("    takes each radiograph: CR, DX, RG; body part knee; view ")
    assert "{" not in ended.out


def test_the_list_as_json_has_the_whole_hash_and_the_input() -> None:
    told = {item["name"]: item for item in dicom_node("pipelines", "list", "--json").json}
    assert set(BUILT_IN) <= set(told)
    for name in BUILT_IN:
        assert told[name]["weights_sha256"] == find_bundles()[name].weights_sha256
        assert told[name]["input"]["kind"] in ("radiograph", "volume")


def own_pipeline(folder: Path, name: str = "own") -> Path:
    """A site's own pipeline on a `pipelines_path`: listed before any network is looked at."""
    code = {"value": "72696002", "scheme": "SCT", "meaning": "Knee"}
    home = folder / "pipelines" / name
    (home / "configs").mkdir(parents=True)
    (home / "weights").mkdir()
    spec = {
        "title": "A site's [own] one",
        "procedure": code,
        "anatomy": code,
        "input": {"kind": "radiograph", "when": {"modality": "CR"}},
        "outputs": [
            {
                "type": "measurement",
                "key": "width",
                "concept": {"value": "width", "scheme": "99SITE", "meaning": "Width"},
                "unit": {"value": "mm", "scheme": "UCUM", "meaning": "millimeter"},
            }
        ],
        "statement": "{subject}",
        "series_number": 9900,
    }
    (home / "configs" / "dicom.yaml").write_text(yaml.safe_dump(spec))
    (home / "configs" / "metadata.json").write_text('{"version": "2.0"}')
    (home / "configs" / "inference.yaml").write_text("network_def: {_target_: Identity}")
    (home / "weights" / "w.safetensors").write_bytes(b"weights")
    entry = {
        "version": "2.0",
        "file": "w.safetensors",
        "sha256": hashlib.sha256(b"weights").hexdigest(),
        "demonstration": False,
    }
    (home / "weights" / "manifest.yaml").write_text(yaml.safe_dump({name: entry}))
    return write_config(folder, routes=[], pipelines_path=["pipelines"])


def test_a_site_s_own_pipeline_is_listed(tmp_path: Path) -> None:
    ended = dicom_node("pipelines", "list", "--config", own_pipeline(tmp_path))
    at = next(n for n, line in enumerate(ended.lines) if line.startswith("own "))
    assert "demonstration" not in ended.lines[at]
    assert ended.lines[at + 1 : at + 3] == [
        "    A site's [own] one",
        "    takes each radiograph: CR",
    ]


def test_check_runs_each_and_says_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "run_on_simulated_input", lambda _: "Knee: [2] (0.1 s)")
    ended = dicom_node("pipelines", "check", "own", "--config", own_pipeline(tmp_path))
    assert ended.status == 0
    assert ended.lines[0] == "ok   own 2.0: Knee: [2] (0.1 s)"
    assert ended.lines[-1].strip() == "keys used: network_def"


def test_check_goes_on_after_one_that_cannot_run_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(bundle: object) -> str:
        if getattr(bundle, "name", "") == "own":
            raise PipelineError("pipeline own", "it cannot be built", "correct [network_def]")
        return "fine"

    monkeypatch.setattr(selftest, "run_on_simulated_input", run)
    monkeypatch.setattr("dicom_node.inference.bundles.Bundle.verify_weights", lambda _: None)
    ended = dicom_node("pipelines", "check", "--config", own_pipeline(tmp_path))
    assert ended.status == 1
    assert "fail own 2.0: it cannot be built" in ended.lines
    assert "      fix: correct [network_def]" in ended.lines
    assert ended.out.count("ok  ") >= len(BUILT_IN)
    assert ended.err.startswith("1 of the pipelines: own cannot run")


def test_changed_weights_are_found(tmp_path: Path) -> None:
    config = own_pipeline(tmp_path)
    (tmp_path / "pipelines" / "own" / "weights" / "w.safetensors").write_bytes(b"others")
    ended = dicom_node("pipelines", "check", "own", "--config", config)
    assert ended.status == 1
    assert "SHA-256 differs" in ended.out


def test_an_unknown_pipeline_names_those_there_are() -> None:
    ended = dicom_node("pipelines", "check", "knee")
    assert ended.status == 2
    assert "knee_kl_ensemble" in ended.err


def test_a_broken_dicom_yaml_is_told_with_its_file_and_key(tmp_path: Path) -> None:
    config = own_pipeline(tmp_path)
    file = tmp_path / "pipelines" / "own" / "configs" / "dicom.yaml"
    file.write_text(file.read_text().replace("series_number: 9900", "series_nummer: 9900"))
    ended = dicom_node("pipelines", "list", "--config", config)
    assert ended.status == 1
    assert f"{file}: series_" in ended.err
    assert "fix: " in ended.err
