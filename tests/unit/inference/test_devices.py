"""Which device is taken where there are GPUs, whole or in parts: PyTorch's answers are made up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dicom_node.errors import PipelineError
from dicom_node.inference.bundles import load_bundle
from dicom_node.inference.devices import device_of
from dicom_node.inference.tuning import Tuning, save_tuning, tuning_of
from dicom_node.serve.roles import device_of_worker
from tests.unit.inference.tiny_bundles import write_bundle

HALF = Tuning(bfloat16=True)


class Cards:
    """What PyTorch says of this machine's GPUs."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        patch.setattr(torch.cuda, "is_available", lambda: bool(self.names))
        patch.setattr(torch.cuda, "device_count", lambda: len(self.names))
        patch.setattr(torch.cuda, "get_device_name", self._name)

    def _name(self, device: torch.device) -> str:
        return self.names[device.index or 0]


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Cards:
    return Cards(monkeypatch)


def test_auto_is_a_gpu_where_there_is_one(cards: Cards) -> None:
    assert device_of("auto") == torch.device("cpu")
    cards.names = ["NVIDIA A100"]
    assert device_of("auto") == torch.device("cuda")
    assert device_of("cpu") == torch.device("cpu")


def test_a_gpu_is_named_by_its_number(cards: Cards) -> None:
    cards.names = ["NVIDIA A100", "NVIDIA A100"]
    assert device_of("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(PipelineError, match="shows 2 GPUs"):
        device_of("cuda:2")


def test_part_of_a_gpu_is_the_only_one_that_is_seen(cards: Cards) -> None:
    # with CUDA_VISIBLE_DEVICES=MIG-… a process sees one device, whatever the machine has
    cards.names = ["NVIDIA A100 MIG 1g.5gb"]
    assert device_of("cuda:0") == torch.device("cuda", 0)
    with pytest.raises(PipelineError, match="shows 1 GPUs"):
        device_of("cuda:1")


def test_workers_take_the_devices_in_turn() -> None:
    devices = ["cuda:0", "cuda:1"]
    names = [f"worker-{number}" for number in range(4)]
    taken = [device_of_worker(devices, name) for name in names]
    assert taken == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert device_of_worker(["auto"], "worker-3") == "auto"


def test_a_choice_for_a_whole_gpu_does_not_hold_for_a_part_of_it(
    tmp_path: Path, cards: Cards
) -> None:
    bundle = load_bundle(write_bundle(tmp_path))
    first, second = torch.device("cuda", 0), torch.device("cuda", 1)
    cards.names = ["NVIDIA A100", "NVIDIA A100"]
    save_tuning(tmp_path, bundle, first, HALF, {})
    assert tuning_of(tmp_path, bundle, second) == HALF
    assert tuning_of(tmp_path, bundle, torch.device("cpu")) == Tuning()
    cards.names = ["NVIDIA A100 MIG 1g.5gb"]
    assert tuning_of(tmp_path, bundle, first) == Tuning()
