"""`pipelines add` and `trust`: where a bundle goes, and what a person is told to do next."""

from __future__ import annotations

from pathlib import Path

from tests.unit.cli.command import dicom_node
from tests.unit.inference import zoo_bundles as zoo
from tests.unit.serve.small_node import write_config


def site(folder: Path) -> Path:
    """A node.yaml whose own pipelines lie in a folder that is still empty."""
    (folder / "pipelines").mkdir()
    return write_config(folder, routes=[], pipelines_path=["pipelines"])


def test_a_bundle_goes_to_the_first_folder_of_node_yaml(tmp_path: Path) -> None:
    config = site(tmp_path)
    bundle = zoo.segmentation(tmp_path)
    ended = dicom_node("pipelines", "add", bundle, "--name", "spleen", "--config", config)
    assert ended.status == 0, ended.err
    folder = tmp_path / "pipelines" / "spleen"
    assert (folder / "models" / "model.pt").is_file()
    assert ended.lines[0].startswith("ok   added spleen 0.3.1: ")
    (fill_in,) = [line for line in ended.lines if "FILL IN" in line]
    assert fill_in.startswith(f"next: replace every FILL IN in {folder / 'configs/dicom.yaml'}: ")
    assert "next: dicom-node pipelines check spleen" in ended.lines
    listed = dicom_node("pipelines", "list", "--config", config)
    assert "dicom.yaml not filled in" in listed.out
    checked = dicom_node("pipelines", "check", "spleen", "--config", config)
    assert checked.status == 1
    assert "procedure.value" in checked.out


def test_without_a_folder_it_asks_for_one(tmp_path: Path) -> None:
    ended = dicom_node("pipelines", "add", zoo.segmentation(tmp_path))
    assert ended.status == 2
    assert "--to" in ended.err


def test_trust_is_given_after_it_is_said_to_what_and_taken_back(tmp_path: Path) -> None:
    config = site(tmp_path)
    added = dicom_node("pipelines", "add", zoo.detection(tmp_path), "--config", config)
    needs = "network_def: it names scripts.network.Brightness"
    assert f"needs trust: {needs}" in added.out
    zoo.filled_in(tmp_path / "pipelines" / "nodule_ct_detection")
    command = ("pipelines", "trust", "nodule_ct_detection", "--config", config)
    given = dicom_node(*command)
    assert given.lines[0] == f"will run: {needs}"
    trusted = tmp_path / "pipelines" / "trusted.yaml"
    assert "nodule_ct_detection:" in trusted.read_text()
    assert "is no longer trusted" in dicom_node(*command, "--revoke").out
    assert "nodule_ct_detection:" not in trusted.read_text()
    assert "was not trusted" in dicom_node(*command, "--revoke").out


def test_what_is_built_in_needs_no_trust() -> None:
    ended = dicom_node("pipelines", "trust", "knee_kl_ensemble")
    assert (ended.status, ended.out) == (0, "knee_kl_ensemble is built in, and needs none\n")
