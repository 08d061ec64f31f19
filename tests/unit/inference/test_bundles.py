"""Pipelines on disk: found, checked, named."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydicom.sr.codedict import codes
from safetensors.torch import save_file

from dicom_node.errors import PipelineError
from dicom_node.inference.bundles import BUILT_IN, find_bundles, load_bundle
from tests.unit.inference import tiny_parts
from tests.unit.inference.tiny_bundles import CLASSIFIER, VOLUME, write_bundle


def test_listing_pipelines_needs_neither_torch_nor_monai() -> None:
    script = (
        "import sys; from dicom_node.inference.bundles import find_bundles; find_bundles();"
        "sys.exit(1 if {'torch', 'monai'} & set(sys.modules) else 0)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_site_s_own_pipelines_are_found_beside_the_built_in_ones(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    found = find_bundles([tmp_path])
    assert found["tiny"].folder == tmp_path / "tiny"
    built_in = {p.parent.parent.name for p in BUILT_IN.glob("*/configs/dicom.yaml")}
    assert built_in <= set(found)


def test_a_site_s_own_pipeline_takes_the_place_of_a_built_in_one(tmp_path: Path) -> None:
    write_bundle(tmp_path, "lumbar_bmd_ct")
    assert find_bundles([tmp_path])["lumbar_bmd_ct"].spec.title == "Bright or dark"


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="pipelines_path"):
        find_bundles([tmp_path / "none"])


def test_the_manifest_gives_version_hash_and_demonstration(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path))
    assert (bundle.version, bundle.demonstration) == ("1.2.3", True)
    assert len(bundle.weights_sha256) == 64
    bundle.verify_weights()


def test_the_algorithm_is_named_with_a_code_of_the_standard(tmp_path: Path) -> None:
    algorithm = load_bundle(write_bundle(tmp_path)).algorithm()
    code = codes.cid7162.ArtificialIntelligence
    assert (algorithm.family.value, algorithm.family.scheme) == (
        code.value,
        code.scheme_designator,
    )
    assert algorithm.family.meaning == code.meaning
    assert algorithm.title == "Bright or dark"


def test_a_site_s_own_weights_change_the_device_and_are_no_demonstration(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path)
    own = tmp_path / "own.safetensors"
    save_file({**tiny_parts.weights(), "extra": tiny_parts.weights()["head.bias"]}, own)
    shipped, site = load_bundle(folder), find_bundles([tmp_path], weights={"tiny": own})["tiny"]
    assert site.weights == own
    assert not site.demonstration
    assert site.version == "1.2.3+site"
    assert site.algorithm().device_uid != shipped.algorithm().device_uid
    assert load_bundle(folder).algorithm().device_uid == shipped.algorithm().device_uid


def test_own_weights_that_are_not_there_are_told(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path), tmp_path / "none.safetensors")
    with pytest.raises(PipelineError, match="cannot be read"):
        bundle.verify_weights()


def test_weights_that_the_node_may_not_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle(tmp_path)
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"weights")

    opened = Path.open

    def refused(file: Path, *args: Any, **kwargs: Any) -> Any:
        if file == own:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(own))
        return opened(file, *args, **kwargs)

    # root, as whom tests may run, may read everything
    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(PipelineError, match="Permission denied") as caught:
        load_bundle(tmp_path / "tiny", own)
    assert caught.value.what == str(own)


def test_weights_whose_name_no_system_takes_are_told(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    with pytest.raises(PipelineError, match="cannot be read"):
        find_bundles([tmp_path], weights={"tiny": tmp_path / ("w" * 300)})


def test_a_pipeline_without_weights_is_listed_and_refused_when_it_is_to_run(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path)
    (folder / "weights" / "manifest.yaml").unlink()
    bundle = find_bundles([tmp_path])["tiny"]
    with pytest.raises(PipelineError, match="cannot be read") as caught:
        bundle.verify_weights()
    assert "node.yaml" in caught.value.fix


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path))
    content = bytearray(bundle.weights.read_bytes())
    content[-1] ^= 1
    bundle.weights.write_bytes(content)
    with pytest.raises(PipelineError, match="SHA-256 differs"):
        bundle.verify_weights()


def test_weights_may_lie_where_monai_bundles_keep_them(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path)
    (folder / "weights" / "manifest.yaml").unlink()
    (folder / "models").mkdir()
    save_file(tiny_parts.weights(), folder / "models" / "model.safetensors")
    bundle = load_bundle(folder)
    bundle.verify_weights()
    assert bundle.version == "1.2.3"
    assert bundle.demonstration


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        ({"seires_number": 1}, "seires_number", "1"),
        ({"series_number": "many"}, "series_number", "many"),
        ({"input": {"kind": "movie"}}, "input.kind", "movie"),
        ({"title": ["a"]}, "title", "a"),
    ],
)
def test_a_mistake_is_named_with_file_key_and_value(
    tmp_path: Path, change: dict[str, Any], key: str, value: str
) -> None:
    folder = write_bundle(tmp_path, **change)
    with pytest.raises(PipelineError) as caught:
        load_bundle(folder)
    assert caught.value.what == f"{folder / 'configs' / 'dicom.yaml'}: {key}"
    assert value in caught.value.why


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    spec = {key: value for key, value in CLASSIFIER.items() if key != "statement"}
    folder = write_bundle(tmp_path, spec=spec)
    with pytest.raises(PipelineError, match="statement: Field required"):
        load_bundle(folder)


_ONE_LABEL = [{**CLASSIFIER["outputs"][0], "labels": CLASSIFIER["outputs"][0]["labels"][:1]}]
_NO_COVERAGE = [{k: v for k, v in CLASSIFIER["outputs"][0].items() if k != "coverage"}]
_SAME_CODES = [{**CLASSIFIER["outputs"][0], "labels": CLASSIFIER["outputs"][0]["labels"][:1] * 2}]


@pytest.mark.parametrize(
    ("spec", "change", "key"),
    [
        (CLASSIFIER, {"outputs": []}, "outputs"),
        (CLASSIFIER, {"outputs": CLASSIFIER["outputs"] * 2}, "outputs"),
        (CLASSIFIER, {"outputs": _ONE_LABEL}, "outputs.0.labels"),
        (CLASSIFIER, {"outputs": _SAME_CODES}, "outputs.0.labels"),
        (CLASSIFIER, {"outputs": _NO_COVERAGE}, "outputs.0.coverage"),
        (CLASSIFIER, {"saliency": {"key": "grade", "layer": "features"}}, "saliency.key"),
        (CLASSIFIER, {"statement": "{subject}: {grade}."}, "statement"),
        (CLASSIFIER, {"statement": "{subject"}, "statement"),
        (CLASSIFIER, {"statement": "{subject.__class__}"}, "statement"),
        (VOLUME, {"summary": {**VOLUME["summary"], "over": "mask"}}, "summary.over"),
        (VOLUME, {"saliency": {"key": "density", "layer": "features"}}, "saliency"),
    ],
)
def test_keys_that_do_not_fit_each_other_are_named(
    tmp_path: Path, spec: dict[str, Any], change: dict[str, Any], key: str
) -> None:
    folder = write_bundle(tmp_path, spec=spec, **change)
    with pytest.raises(PipelineError) as caught:
        load_bundle(folder)
    assert caught.value.what.endswith(f"dicom.yaml: {key}")


@pytest.mark.parametrize("text", ["a: [", "- a list\n- of things", "just text", ""])
def test_a_file_that_is_no_mapping_is_an_error_not_a_crash(tmp_path: Path, text: str) -> None:
    folder = write_bundle(tmp_path)
    (folder / "configs" / "dicom.yaml").write_text(text)
    with pytest.raises(PipelineError):
        load_bundle(folder)


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_broken_metadata_file_is_named(tmp_path: Path, text: str) -> None:
    folder = write_bundle(tmp_path)
    (folder / "configs" / "metadata.json").write_text(text)
    with pytest.raises(PipelineError, match=r"metadata\.json"):
        load_bundle(folder)


def test_a_mistake_in_the_manifest_is_named(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path)
    manifest = folder / "weights" / "manifest.yaml"
    entry = yaml.safe_load(manifest.read_text())["tiny"]
    manifest.write_text(yaml.safe_dump({"tiny": {**entry, "sha": "0"}}))
    with pytest.raises(PipelineError, match=r"manifest\.yaml: tiny\.sha"):
        load_bundle(folder)


def test_a_bundle_without_inference_configuration_is_told(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path)
    (folder / "configs" / "inference.yaml").unlink()
    with pytest.raises(PipelineError, match="no inference"):
        _ = load_bundle(folder).inference_config
