"""A site's own devices: from a folder and a catalogue to weights and figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dicom_node.demo.phantom_studies import radiograph_study
from dicom_node.inference.bundles import WEIGHTS, load_bundle
from dicom_node.inference.parts import build_parts
from pipelines.hip_fixation_device import train
from pipelines.hip_fixation_device.data import (
    LABELS,
    SIZE,
    labels_of,
    read_folder,
    simulated,
    to_input,
)
from pipelines.hip_fixation_device.evaluate import figures, gate_figures, open_set, table
from pipelines.hip_fixation_device.site_bundle import label_entries, write_bundle
from pipelines.networks.hip import HipDeviceNet
from pipelines.phantoms.hip import hip_radiograph
from pipelines.transforms.hip import HipDeviceAnswerd

torch.set_num_threads(1)
_SHIPPED = WEIGHTS / "hip_fixation_device" / "0.4.0.safetensors"


@pytest.fixture
def site(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of images and a catalogue of one device."""
    rng = np.random.default_rng(0)
    rows = ["file,label,split"]
    for number in range(12):
        label = ("nail_x", "none", "other", "not_ap")[number % 4]
        pixels = rng.integers(0, 60000, (80, 60)).astype(np.uint16)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{label},{'train' if number < 8 else 'val'}")
    (tmp_path / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    catalogue = tmp_path / "catalogue.yaml"
    catalogue.write_text(
        "devices: [{key: nail_x, manufacturer: M, model: X, kind: nail}]", encoding="utf-8"
    )
    return tmp_path, catalogue


def test_a_site_trains_on_its_own_catalogue(
    site: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, catalogue = site
    out = folder / "w.safetensors"
    settings = folder / "train.yaml"
    settings.write_text("batch: 4\nsteps: 2\nseed: 1\nlearning_rate: 0.001\nlabel_smoothing: 0.0")
    arguments = ["--out", out, "--data", folder, "--catalogue", catalogue, "--config", settings]
    arguments += ["--bundle", folder / "bundle"]
    assert train.main([str(a) for a in arguments]) == 0
    network = HipDeviceNet(len(labels_of(catalogue)))
    network.load_state_dict(load_file(out))
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert found.keys() >= set(train.CALIBRATED)
    parts = build_parts(load_bundle(folder / "bundle", out), torch.device("cpu"))
    assert parts.network(torch.rand(1, 1, SIZE, SIZE)).shape == (1, 5)


def test_a_catalogue_s_udi_reaches_the_labels_of_the_site_s_bundle(tmp_path: Path) -> None:
    catalogue = tmp_path / "mine.yaml"
    catalogue.write_text(
        "devices: [{key: nail_x, manufacturer: Maker, model: X 2, kind: nail, "
        "udi: {agency: GS1, device_identifier: '01234567890128'}}]",
        encoding="utf-8",
    )
    numbers = {"temperature": 0.8, "threshold": 0.1, "most_not_ap": 0.2, "farthest": 15.0}
    made = load_bundle(write_bundle(tmp_path / "b", catalogue, numbers), _SHIPPED)
    (output,) = made.spec.outputs
    assert output.labels[0].text == "Maker X 2"
    stated = {code.value: text for code, text in output.labels[0].detail}
    assert stated == {
        "device-maker": "Maker",
        "device-model": "X 2",
        "device-kind": "nail",
        "device-udi-di": "GS1 01234567890128",
    }


@pytest.mark.parametrize(
    ("device", "why"),
    [
        ("{key: a, manufacturer: M, model: X}", "no kind"),
        ("{key: a_very_long_device_key, manufacturer: M, model: X, kind: nail}", "longer than 16"),
        ("{key: a, manufacturer: M, model: X, kind: nail, udi: {agency: ME}}", "agency"),
        (
            "{key: a, manufacturer: M, model: X, kind: n}, "
            "{key: b, code: hfd-a, manufacturer: M, model: Y, kind: n}",
            "same code",
        ),
    ],
)
def test_an_incomplete_catalogue_is_refused_with_what_is_wrong(
    tmp_path: Path, device: str, why: str
) -> None:
    catalogue = tmp_path / "mine.yaml"
    catalogue.write_text(f"devices: [{device}]", encoding="utf-8")
    with pytest.raises(ValueError, match=why):
        label_entries(catalogue)


def test_a_folder_may_hold_dicom(tmp_path: Path) -> None:
    """MONOCHROME1: the node's reader turns it to bright bone, as it does at inference."""
    pixels = hip_radiograph(3, "sliding_screw", "R", spacing_mm=2.0).image
    (study,) = radiograph_study(
        pixels, 2.0, key="H", body_part="HIP", description="Hip", monochrome1=True
    )
    study.save_as(tmp_path / "a", enforce_file_format=True)
    (tmp_path / "labels.csv").write_text("file,label\na,sliding_screw", encoding="utf-8")
    images, labels = read_folder(tmp_path, LABELS)
    assert LABELS[labels[0]] == "sliding_screw"
    plain = to_input(pixels / 4095)
    assert float(np.corrcoef(images[0].ravel(), plain.ravel())[0, 1]) > 0.99


def test_images_of_a_site_are_scaled_to_0_to_1(site: tuple[Path, Path]) -> None:
    folder, catalogue = site
    images, labels = read_folder(folder, labels_of(catalogue), "val")
    assert images.shape == (4, 1, SIZE, SIZE)
    assert 0 <= float(images.min()) < float(images.max()) <= 1
    assert labels.tolist() == [0, 1, 2, 3]


def test_a_label_outside_the_catalogue_is_named(site: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="nail_x"):
        read_folder(site[0], LABELS)


def test_simulation_is_repeatable_and_has_every_label() -> None:
    images, labels = simulated(len(LABELS), 5)
    again, _ = simulated(len(LABELS), 5)
    assert torch.equal(images, again)
    assert sorted(labels) == list(range(len(LABELS)))


def test_augmented_images_keep_their_shape() -> None:
    torch.manual_seed(0)
    out = train.augmented(torch.rand(3, 1, SIZE, SIZE))
    assert out.shape == (3, 1, SIZE, SIZE)
    assert torch.isfinite(out).all()


def test_perfect_logits_get_perfect_figures() -> None:
    truth = np.arange(40) % 4
    found = figures(np.eye(4)[truth] * 20, truth, ("a", "none", "other", "not_ap"), _answer())
    assert found["top1"] == 1
    assert all(row["f1"] == 1 and row["auc"] == 1 for row in found["per_label"].values())
    assert found["not_ap"] == {"n": 10, "refused": 1.0, "auroc": 1.0}
    assert found["confusion"] == [[10, 0, 0], [0, 10, 0], [0, 0, 10]]
    assert "TOP-1 1.000" in table(found)


def test_a_wrong_answer_costs_precision_there_and_sensitivity_here() -> None:
    truth = np.array([0, 0, 1, 1])
    said = np.array([0, 1, 1, 1])
    found = figures(np.eye(4)[said] * 9, truth, ("a", "none", "other", "not_ap"), _answer())
    assert found["per_label"]["a"]["sensitivity"] == 0.5
    assert found["per_label"]["none"]["precision"] == pytest.approx(2 / 3)
    assert found["per_label"]["none"]["specificity"] == 0.5


def test_open_set_figures_count_what_is_called_a_device() -> None:
    # one device, none, other, not_ap; then the distance
    known = np.array([[9.0, 0, 0, 0, 11], [8.0, 0, 0, 0, 12], [8.0, 0, 0, 0, 16]])
    unknown = np.array([[6.0, 0, 0, 0, 13], [6.0, 0, 0, 0, 17], [0, 0, 7.0, 0, 12.5]])
    found = open_set(known, unknown, ["blade_plate", "claw_plate", "resurfacing"], 15.0)
    assert found["auroc"] == pytest.approx(7 / 9)
    assert found["known_refused"] == pytest.approx(1 / 3)
    assert found["not_called_a_device"] == pytest.approx(2 / 3)
    assert found["by_kind"] == {"blade_plate": 0.0, "claw_plate": 1.0, "resurfacing": 1.0}


def test_the_distance_is_large_for_features_that_no_device_has() -> None:
    generator = torch.Generator().manual_seed(0)
    network = HipDeviceNet(5).eval()
    with torch.inference_mode():
        images = torch.rand(40, 1, 64, 64, generator=generator)
        assert float(network(images)[:, -1].max()) == 0.0
        network.know(network.described(images), torch.arange(40) % 2)
        near = network(images)[:, -1]
        stripes = torch.zeros(1, 1, 64, 64)
        stripes[..., ::2, :] = 1
        far = network(stripes)[:, -1]
    assert float(far) > 2 * float(near.max())


def test_weights_from_before_the_distances_load_and_refuse_nothing() -> None:
    state = HipDeviceNet(5).state_dict()
    del state["centres"], state["whitening"]
    network = HipDeviceNet(5).eval()
    network.load_state_dict(state)
    with torch.inference_mode():
        assert float(network(torch.rand(1, 1, 64, 64))[0, -1]) == 0.0


def test_weights_whose_distance_looks_at_the_last_block_alone_give_the_same_distance() -> None:
    network = HipDeviceNet(5).eval()
    state = network.state_dict()
    generator = torch.Generator().manual_seed(0)
    centres, whitening = torch.rand(2, 256, generator=generator), torch.eye(256)
    state["centres"], state["whitening"] = centres, whitening
    network.load_state_dict(state)
    with torch.inference_mode():
        image = torch.rand(1, 1, 64, 64, generator=generator)
        last = network.described(image)[:, -256:]
        expected = float(torch.cdist(last, centres).min())
        assert float(network(image)[0, -1]) == pytest.approx(expected, rel=1e-4)


def test_gate_figures_of_a_gate_that_sees_nothing() -> None:
    same = np.full(10, 0.2)
    assert gate_figures(same, same, 0.5) == {"n": 10, "refused": 0.0, "auroc": 0.5}


def test_calibration_lets_nearly_all_hips_pass() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 800)
    logits = np.eye(4)[truth] * 3 + rng.normal(0, 1, (800, 4))
    found = train.calibration(np.c_[logits, np.arange(800.0)], truth)
    assert 0 < found["most_not_ap"] <= 0.5
    assert found["refused_of_not_ap"] > 0.5
    assert 780 < found["farthest"] < 800


def _answer() -> HipDeviceAnswerd:
    return HipDeviceAnswerd(temperature=1.0, threshold=0.5, most_not_ap=0.5)
