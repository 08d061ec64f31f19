"""`pipelines selftest` and `pipelines tune` as a user has them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from dicom_node.config import load_config
from dicom_node.inference import golden
from dicom_node.inference.bundles import load_bundle
from dicom_node.inference.loaded import LoadedPipeline
from dicom_node.inference.trust import trust
from dicom_node.store import fitness
from dicom_node.store.database import Database
from tests.unit.cli.command import Ended, dicom_node
from tests.unit.inference.job_files import spot
from tests.unit.inference.tiny_bundles import write_bundle
from tests.unit.serve.small_node import write_config

torch.set_num_threads(1)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A node.yaml with one own pipeline, "tiny", and its golden input."""
    config = write_config(
        tmp_path,
        routes=[],
        pipelines_path=["pipelines"],
        inference={"device": "cpu", "threads": 1},
    )
    bundle = write_bundle(tmp_path / "pipelines")
    np.save(bundle / "configs" / "golden.npy", spot(30, 90).astype(np.float32) / 4095)
    trust(bundle)
    spec = golden.GoldenSpec(array="golden.npy", attributes={"ImageLaterality": "R"})
    file = bundle / "configs" / "selftest.yaml"
    file.write_text(golden.written(LoadedPipeline(load_bundle(bundle), torch.device("cpu")), spec))
    trust(bundle)
    return config


def on(site: Path, command: str, *arguments: object) -> Ended:
    return dicom_node("pipelines", command, *arguments, "--config", site)


def drift(site: Path) -> None:
    """Let the pipeline be expected to answer otherwise than it does."""
    bundle = site.parent / "pipelines" / "tiny"
    file = bundle / "configs" / "selftest.yaml"
    content = yaml.safe_load(file.read_text())
    content["expected"] = {name: [9.0] * len(v) for name, v in content["expected"].items()}
    file.write_text(yaml.safe_dump(content))
    trust(bundle)


def database_of(site: Path) -> Database:
    return Database(load_config(site).database_url)


def unfit(site: Path) -> dict[str, str]:
    database = database_of(site)
    try:
        with database.read() as session:
            return fitness.unfit(session)
    finally:
        database.close()


def test_a_drifted_pipeline_is_disabled_until_it_passes_again(site: Path) -> None:
    database_of(site).migrate()
    passed = on(site, "selftest", "tiny")
    assert (passed.status, passed.out) == (0, "ok   tiny: as it was\n")
    drift(site)
    failed = on(site, "selftest", "tiny")
    assert failed.status == 1
    assert failed.out.startswith("fail tiny: class brightness of ")
    assert "tiny did not pass" in failed.err
    assert list(unfit(site)) == ["tiny"]
    assert "tiny" in dicom_node("status", "--config", site).out
    assert on(site, "selftest", "tiny", "--write").status == 0
    assert unfit(site) == {}


@pytest.mark.parametrize("command", ["selftest", "tune"])
def test_a_wrong_name_is_told_with_the_right_ones(site: Path, command: str) -> None:
    ended = on(site, command, "tinny")
    assert ended.status == 2
    assert "pipeline tinny: there is none" in ended.err
    assert "tiny" in ended.err.partition("known: ")[2]


@pytest.mark.parametrize("command", ["selftest", "tune"])
def test_missing_weights_are_an_error_with_their_file(site: Path, command: str) -> None:
    (site.parent / "pipelines" / "tiny" / "weights" / "1.2.3.safetensors").unlink()
    ended = on(site, command, "tiny")
    assert ended.status != 0
    assert "1.2.3.safetensors" in ended.out + ended.err


def test_a_choice_is_written_for_the_workers_and_taken_back(site: Path) -> None:
    ended = on(site, "tune", "tiny", "--rounds", "1")
    assert ended.status == 0, ended.err
    assert sum("chosen" in line for line in ended.lines) == 1
    file = site.parent / "data" / "tuning" / "tiny.json"
    content = json.loads(file.read_text())
    assert content["for"]["version"] == "1.2.3"
    assert len(content["measured"]["options"]) == 5
    undone = on(site, "tune", "tiny", "--undo")
    assert "the defaults hold" in undone.out
    assert not file.exists()
    assert "nothing was chosen" in on(site, "tune", "tiny", "--undo").out


def test_a_folder_without_a_study_tunes_nothing(site: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ended = on(site, "tune", "tiny", "--images", tmp_path / "empty")
    assert ended.status != 0
    assert "there are no files" in ended.err
