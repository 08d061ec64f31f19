"""Folded networks give what they gave."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dicom_node.inference.folding import fold_batch_norms


def network() -> nn.Sequential:
    """Two convolutions with statistics that are not those of the start."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    made = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), norm, nn.ReLU()),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.BatchNorm2d(4, eps=1e-2),
    )
    made.train()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
        for _ in range(3):
            made(torch.rand(2, 1, 12, 12) * 3)
    return made.eval()


def test_a_folded_network_gives_the_same_up_to_rounding() -> None:
    net = network()
    image = torch.rand(2, 1, 12, 12)
    expected = net(image)
    assert fold_batch_norms(net) == 2
    assert not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    assert net(image).detach().numpy() == pytest.approx(expected.detach().numpy(), abs=1e-5)


def test_a_convolution_that_a_map_is_taken_from_stays_as_it_is() -> None:
    net = network()
    image = torch.rand(1, 1, 12, 12)
    before = net[0][0](image)
    assert fold_batch_norms(net, keep="0.0") == 1
    assert torch.equal(net[0][0](image), before)


def test_a_layer_that_stands_in_two_places_is_not_folded() -> None:
    conv = nn.Conv2d(4, 4, 1)
    net = nn.Sequential(
        nn.Sequential(conv, nn.BatchNorm2d(4)), nn.Sequential(conv, nn.BatchNorm2d(4))
    ).eval()
    image = torch.rand(1, 4, 5, 5)
    expected = net(image)
    assert fold_batch_norms(net) == 0
    assert torch.equal(net(image), expected)


def test_other_normalisation_is_left_alone() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4), nn.BatchNorm2d(4)).eval()
    assert fold_batch_norms(net) == 0
