"""The executor of one process, and the building of bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from structlog.testing import capture_logs

from dicom_node.errors import PipelineError
from dicom_node.inference.bundles import find_bundles
from dicom_node.inference.loaded import LoadedPipeline
from dicom_node.inference.local import LocalExecutor
from tests.factories import radiograph
from tests.unit.inference import tiny_parts
from tests.unit.inference.job_files import job, spot
from tests.unit.inference.tiny_bundles import parts, write_bundle


def executor(folder: Path, *, weights: dict[str, Path] | None = None) -> LocalExecutor:
    bundles = find_bundles([folder], weights=weights)
    names = [path.name for path in folder.iterdir() if path.is_dir() and path.name in bundles]
    return LocalExecutor({name: bundles[name] for name in names}, device="cpu", threads=1)


def test_a_pipeline_is_loaded_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle(tmp_path)
    local = executor(tmp_path)
    local.warm_up()
    monkeypatch.setattr(
        "dicom_node.inference.loaded.build_parts", lambda *_: pytest.fail("loaded again")
    )
    made = job(tmp_path / "in", [radiograph(spot(30, 90))])
    first, second = local.run("tiny", made), local.run("tiny", made)
    assert first.findings.statement == second.findings.statement
    assert local.spec("tiny").title == "Bright or dark"


def test_a_pipeline_that_cannot_be_loaded_leaves_the_others_alone(tmp_path: Path) -> None:
    write_bundle(tmp_path, "good")
    bad = write_bundle(tmp_path, "bad")
    (bad / "weights" / "1.2.3.safetensors").write_bytes(b"other weights")
    local = executor(tmp_path)
    local.warm_up()
    made = job(tmp_path / "in", [radiograph(spot(30, 90))])
    assert local.run("good", made).findings.evaluated
    with pytest.raises(PipelineError, match="SHA-256 differs"):
        local.run("bad", made)


def test_a_node_that_is_stopped_while_it_loads_leaves_the_rest(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_bundle(tmp_path, name)
    local = executor(tmp_path)
    asked = iter([False, True])
    assert len(local.warm_up(stopped=lambda: next(asked))) == 1


def test_a_site_s_own_weights_are_used(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    made = job(tmp_path / "in", [radiograph(spot(30, 90))])
    own = tmp_path / "own.safetensors"
    turned = tiny_parts.weights()
    turned["head.weight"] = turned["head.weight"].flip(0).contiguous()
    save_file(turned, own)
    shipped = executor(tmp_path).run("tiny", made).findings
    site = executor(tmp_path, weights={"tiny": own}).run("tiny", made).findings
    assert "bright" in shipped.statement
    assert "dark" in site.statement
    assert not site.algorithm.demonstration


def test_an_unknown_pipeline_is_an_error(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    with pytest.raises(PipelineError, match="none of that name"):
        executor(tmp_path).spec("other")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"network_def": None}, "`network_def` is no network"),
        ({"network_def": {"_target_": "torch.nn.Lost"}}, "it cannot be built"),
        ({"network_def": {"_target_": "torch.nn.Flatten"}}, "and has 4 others"),
        ({"locator": "BLUR"}, "`locator` cannot be called"),
        ({"preprocessing": "Lost"}, "it cannot be built"),
        ({"inferer": {"_target_": "Lost"}}, "it cannot be built"),
    ],
)
def test_a_bundle_that_cannot_be_built_says_why(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    write_bundle(tmp_path, inference=parts(**changes))
    with pytest.raises(PipelineError, match=why):
        executor(tmp_path).run("tiny", job(tmp_path / "in", [radiograph(spot(30, 90))]))


def test_a_layer_that_is_not_there_is_told_at_loading(tmp_path: Path) -> None:
    write_bundle(tmp_path, saliency={"key": "probabilities", "layer": "layer4"})
    with pytest.raises(PipelineError, match="layer4"):
        executor(tmp_path).run("tiny", job(tmp_path / "in", [radiograph(spot(30, 90))]))


def test_a_pickle_of_more_than_tensors_is_never_loaded(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    own = tmp_path / "own.pt"
    torch.save(tiny_parts.BrightSpot(), own)
    local = executor(tmp_path, weights={"tiny": own})
    with pytest.raises(PipelineError, match="a pickle of more than tensors"):
        local.run("tiny", job(tmp_path / "in", [radiograph(spot(30, 90))]))


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "gpu 1"])
def test_a_device_that_is_not_there_is_told(device: str) -> None:
    with pytest.raises(PipelineError, match=r"inference\.device"):
        LocalExecutor({}, device=device)


def test_the_whole_machine_s_switches_are_set() -> None:
    LocalExecutor({}, device="cpu", threads=1)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 1


def test_beyond_the_budget_the_pipeline_used_longest_ago_is_put_away(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        write_bundle(tmp_path, name)
    bundles = find_bundles([tmp_path])
    names = ("one", "two", "three")
    made = job(tmp_path / "in", [radiograph(spot(30, 90))])
    mine = {name: bundles[name] for name in names}
    size = LoadedPipeline(bundles["one"], torch.device("cpu")).megabytes
    local = LocalExecutor(mine, device="cpu", threads=1, model_memory_mb=2.5 * size)
    with capture_logs() as logs:
        for name in ("one", "two", "one", "three"):
            assert local.run(name, made).findings.evaluated
    away = [line["pipeline"] for line in logs if line["event"] == "pipeline_put_away"]
    assert away == ["two"]
    assert local.run("two", made).findings.evaluated


def test_a_pipeline_larger_than_the_budget_stays_while_it_is_used(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    mine = {"tiny": find_bundles([tmp_path])["tiny"]}
    local = LocalExecutor(mine, device="cpu", threads=1, model_memory_mb=1e-9)
    made = job(tmp_path / "in", [radiograph(spot(30, 90))])
    assert local.run("tiny", made).findings.evaluated


def test_without_determinism_a_gpu_may_choose_its_algorithms() -> None:
    LocalExecutor({}, device="cpu", threads=1, deterministic=False)
    try:
        assert torch.backends.cudnn.benchmark
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        LocalExecutor({}, device="cpu", threads=1)
    assert not torch.backends.cudnn.benchmark
    assert torch.are_deterministic_algorithms_enabled()
