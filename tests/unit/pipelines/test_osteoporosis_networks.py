"""The networks of the osteoporosis pipelines: what they see, what they load, how they are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.networks.nets import resnet50
from safetensors.torch import save_file
from torch import nn

from pipelines.networks.baselines import BODIES, alexnet, load_body, vgg16
from pipelines.networks.int8 import quantised, restored
from pipelines.networks.knee_osteoporosis import BORDER, KneeClassifier, KneeOsteoporosis, framed

torch.set_num_threads(1)

TORCHVISION = {
    "alexnet": ("features.0.weight", [64, 3, 11, 11]),
    "vgg16": ("features.40.weight", [512, 512, 3, 3]),
    "resnet18": ("layer4.1.conv2.weight", [512, 512, 3, 3]),
    "resnet50": ("layer4.0.downsample.0.weight", [2048, 1024, 1, 1]),
}
"""A tensor of each of torchvision's files: alexnet, vgg16_bn, resnet18, resnet50."""


@pytest.mark.parametrize("name", list(BODIES))
def test_every_network_gives_a_logit_for_each_class(name: str) -> None:
    network = KneeClassifier(name, 3).eval()
    with torch.inference_mode():
        assert network(torch.rand(2, 1, 64, 64)).shape == (2, 3)


@pytest.mark.parametrize("name", list(TORCHVISION))
def test_tensors_have_torchvision_s_names_and_shapes(name: str) -> None:
    tensor, shape = TORCHVISION[name]
    made, _ = BODIES[name]
    own = made().state_dict()[tensor.removeprefix("features.")]
    assert list(own.shape) == shape


@pytest.mark.parametrize("kind", ["torchvision", "medicalnet", "safetensors"])
def test_a_file_of_published_weights_is_loaded_without_its_head(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(1)
    made = resnet50(spatial_dims=2, n_input_channels=3, num_classes=1000, conv1_t_stride=2)
    state = {name: torch.randn_like(t) if t.is_floating_point() else t
             for name, t in made.state_dict().items()}  # fmt: skip
    file = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "torchvision":
        old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
        torch.save(old, file)
    elif kind == "medicalnet":
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, file)
    else:
        save_file({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, file)
    body = BODIES["resnet50"][0]()
    load_body(body, file)
    assert torch.allclose(body.state_dict()["conv1.weight"], state["conv1.weight"], atol=2e-3)
    last = "layer4.2.bn3.running_var"
    assert torch.allclose(body.state_dict()[last], state[last], atol=3e-3)


@pytest.mark.parametrize("made", [alexnet, vgg16])
def test_files_with_features_and_classifier_are_loaded(
    tmp_path: Path, made: Callable[[], nn.Sequential]
) -> None:
    torch.manual_seed(6)
    given = {f"features.{k}": torch.rand_like(v) if v.is_floating_point() else v
             for k, v in made().state_dict().items()}  # fmt: skip
    torch.save({**given, "classifier.6.weight": torch.zeros(4, 4)}, tmp_path / "w.pth")
    body = made()
    load_body(body, tmp_path / "w.pth")
    assert all(torch.equal(v, given[f"features.{k}"]) for k, v in body.state_dict().items())


def test_weights_of_another_network_are_refused_by_the_tensor_s_name(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file({k: v.contiguous() for k, v in alexnet().state_dict().items()}, file)
    with pytest.raises(ValueError, match=r"no tensor conv1\.weight"):
        load_body(BODIES["resnet18"][0](), file)
    state = {k: v.contiguous() for k, v in alexnet().state_dict().items()}
    save_file({**state, "0.weight": torch.zeros(64, 1, 11, 11)}, file)
    with pytest.raises(ValueError, match=r"0\.weight is \[64, 1, 11, 11\], not \[64, 3, 11, 11\]"):
        load_body(alexnet(), file)
    save_file({**state, "99.weight": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match=r"99\.weight that the network has not"):
        load_body(alexnet(), file)


def test_a_file_with_other_things_than_tensors_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    torch.save({"epoch": 3}, file)
    with pytest.raises(ValueError, match="other things than tensors"):
        load_body(alexnet(), file)


def test_the_border_of_a_crop_and_its_exposure_are_not_seen() -> None:
    torch.manual_seed(2)
    image = torch.rand(1, 1, 80, 80)
    edge = int(80 * BORDER)
    other = torch.rand(1, 1, 80, 80)
    other[..., edge:-edge, edge:-edge] = image[..., edge:-edge, edge:-edge]
    assert torch.equal(framed(image), framed(other))
    assert torch.allclose(framed(image), framed(image * 0.4 + 0.3), atol=1e-4)
    assert torch.count_nonzero(framed(image)[..., :edge, :]) == 0


def test_large_convolutions_are_kept_as_integers_and_answers_stay() -> None:
    torch.manual_seed(3)
    plain = KneeOsteoporosis("resnet18", 2).eval()
    small = KneeOsteoporosis("resnet18", 2, int8=True).eval()
    small.load_state_dict(plain.state_dict())  # takes plain weights too
    state = small.state_dict()
    assert state["body.layer4.1.conv2.weight_int8"].dtype == torch.int8
    assert "body.layer4.1.conv2.weight" not in state
    assert "body.conv1.weight" in state
    again = KneeOsteoporosis("resnet18", 2, int8=True).eval()
    assert not any(again.load_state_dict(state, strict=False))
    bytes_of = [sum(t.numel() * t.element_size() for t in s.values())
                for s in (state, plain.state_dict())]  # fmt: skip
    assert bytes_of[0] < 0.3 * bytes_of[1]
    image = torch.rand(4, 1, 80, 80)
    with torch.inference_mode():
        one, other = plain(image).softmax(1), again(image).softmax(1)
    assert torch.allclose(one, other, atol=0.05)
    assert not torch.equal(one, other)


def test_integers_are_within_half_a_step_of_the_weight() -> None:
    torch.manual_seed(4)
    weight = torch.randn(5, 3, 3, 3) * torch.tensor([1e-3, 0.1, 1, 10, 0])[:, None, None, None]
    values, scale = quantised(weight)
    worst = (restored(values, scale) - weight).abs().flatten(1).amax(1)
    assert (worst <= scale / 2 + 1e-7).all()


def test_an_image_and_its_mirror_image_get_one_answer() -> None:
    network = KneeOsteoporosis("superfluity", 3).eval()
    image = torch.rand(2, 1, 80, 80)
    with torch.inference_mode():
        assert torch.allclose(network(image), network(image.flip(-1)), atol=1e-5)
