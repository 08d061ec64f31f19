"""Grad-CAM, and its way from the network's input back to the source."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dicom_node.errors import PipelineError
from dicom_node.inference.saliency import Explainer, crop, onto_source
from tests.unit.inference.tiny_parts import BrightSpot, NotFinite, weights


def network(outputs: int = 2) -> BrightSpot:
    net = BrightSpot(outputs)
    net.load_state_dict({name: tensor.float() for name, tensor in weights(outputs).items()})
    return net.eval().requires_grad_(False)


def spot_at(row: int, column: int) -> torch.Tensor:
    image = torch.zeros(1, 1, 32, 32)
    image[..., row : row + 4, column : column + 4] = 1
    return image


@pytest.mark.parametrize("outputs", [2, 1], ids=["classification", "regression"])
@pytest.mark.parametrize("method", ["gradcam", "gradcam++"])
def test_the_map_is_brightest_where_the_answer_comes_from(outputs: int, method: str) -> None:
    explain = Explainer(network(outputs), "features", method=method)
    map_ = explain(spot_at(8, 20), outputs - 1)
    assert map_.shape == (32, 32)
    assert map_.dtype == np.float32
    assert (map_.min(), map_.max()) == (0, 1)
    row, column = np.unravel_index(map_.argmax(), map_.shape)
    assert (row, column) == (pytest.approx(10, abs=2), pytest.approx(22, abs=2))


def test_the_map_after_inference_mode_is_the_same() -> None:
    net = network()
    explain = Explainer(net, "features")
    first = explain(spot_at(8, 20), 1)
    with torch.inference_mode():
        net(spot_at(16, 4))
    assert (explain(spot_at(8, 20), 1) == first).all()
    assert all(not p.requires_grad for p in net.parameters())


def test_an_answer_that_nothing_speaks_for_has_an_empty_map() -> None:
    map_ = Explainer(network(), "features")(torch.zeros(1, 1, 32, 32), 1)
    assert (map_ == 0).all()


def test_a_layer_that_the_network_lacks_is_an_error() -> None:
    with pytest.raises(PipelineError, match="no such layer"):
        Explainer(network(), "layer4")


def test_gradients_that_are_no_numbers_are_an_error() -> None:
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = NotFinite().features

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.sqrt(self.features(image).flatten(2).sum(-1) * 0 - 1)

    with pytest.raises(PipelineError, match="not finite"):
        Explainer(Root(), "features")(spot_at(8, 20), 0)


_BOXES = st.tuples(
    st.integers(-20, 50), st.integers(-20, 50), st.integers(1, 60), st.integers(1, 60)
)


@given(_BOXES, st.booleans())
def test_a_crop_put_back_lies_where_it_was_cut_out(
    box: tuple[int, int, int, int], mirror: bool
) -> None:
    source = torch.rand(1, 40, 50, generator=torch.Generator().manual_seed(0)) + 0.1
    cut = crop(source, box, mirror)
    assert cut.shape == (1, box[3], box[2])
    back = onto_source(cut[0].numpy(), (40, 50), box, mirror)
    left, top, width, height = box
    inside = np.zeros((40, 50), bool)
    inside[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = True
    assert back[inside] == pytest.approx(source[0].numpy()[inside], abs=1e-6)
    assert (back[~inside] == 0).all()


def test_without_a_box_the_map_covers_the_whole_image() -> None:
    map_ = np.zeros((8, 8), np.float32)
    map_[0, 0] = 1
    whole = onto_source(map_, (80, 40), None, False)
    assert whole.shape == (80, 40)
    assert whole[0, 0] == 1
    assert onto_source(map_, (80, 40), None, True)[0, -1] == 1
