"""Grad-CAM from the forward pass that gave the answer."""

from __future__ import annotations

import pytest
import torch
from monai.visualize import GradCAM, GradCAMpp
from torch import nn

from dicom_node.errors import PipelineError
from dicom_node.inference.saliency import Explainer


class Looks(nn.Module):
    """Looks at the image and at its mirror image, as the knee ensemble does."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 6, 5, 2), nn.ReLU(), nn.Conv2d(6, 8, 3))
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(8, 3)

    def look(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.act(self.features(image)).mean((2, 3)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (self.look(image) + self.look(image.flip(-1))) / 2


class LooksOnce(Looks):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.look(image)


def seeded(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(3)
    return kind().eval().requires_grad_(False)


@pytest.mark.parametrize(("method", "theirs"), [("gradcam", GradCAM), ("gradcam++", GradCAMpp)])
def test_the_map_is_that_of_monai(method: str, theirs: type[GradCAM]) -> None:
    images = torch.rand(1, 1, 40, 48, generator=torch.Generator().manual_seed(1))
    ours = Explainer(seeded(LooksOnce), "features", method=method)(images, 2)
    net = seeded(LooksOnce)
    net.act.inplace = False  # MONAI's hooks do not bear it
    other = theirs(net, target_layers="features", postprocessing=lambda x: x)
    expected = other(images.clone().requires_grad_(True), class_idx=2)[0, 0].detach().numpy()
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    assert ours == pytest.approx(expected, abs=1e-5)


def test_behind_pooling_and_a_linear_layer_it_is_the_class_activation_map() -> None:
    """Zhou et al., CVPR 2016: the head's weights times the features, in closed form."""

    class Pooled(LooksOnce):
        def look(self, image: torch.Tensor) -> torch.Tensor:
            return self.head(self.features(image).mean((2, 3)))

    net = seeded(Pooled)
    image = torch.rand(1, 1, 40, 48, generator=torch.Generator().manual_seed(1))
    weights = net.head.weight[1][None, :, None, None]
    found = torch.relu((weights * net.features(image)).sum(1, keepdim=True))
    found = nn.functional.interpolate(found, (40, 48), mode="bilinear")[0, 0].numpy()
    expected = (found - found.min()) / (found.max() - found.min())
    assert Explainer(net, "features")(image, 1) == pytest.approx(expected, abs=1e-5)


def test_a_network_that_also_looks_at_the_mirror_image_is_explained_on_the_image_as_it_is() -> None:
    image = torch.rand(1, 1, 40, 48, generator=torch.Generator().manual_seed(1))
    both = Explainer(seeded(Looks), "features")(image, 0)
    once = Explainer(seeded(LooksOnce), "features")(image, 0)
    assert both == pytest.approx(once, abs=1e-5)
    assert both != pytest.approx(once[:, ::-1], abs=0.1)


def test_maps_of_a_batch_are_those_of_its_images_and_cost_no_pass_of_their_own() -> None:
    net = seeded(Looks)
    images = torch.rand(4, 1, 40, 48, generator=torch.Generator().manual_seed(1))
    explain = Explainer(net, "features")
    passes = []
    counting = net.register_forward_pre_hook(lambda *_: passes.append(1))
    with explain.watching() as seen:
        found = torch.cat([net(images[:1]), net(images[1:])])  # as when memory is short
    together = seen.maps(found, [0, 1, 2, 0], (40, 48))
    assert len(passes) == 2
    counting.remove()
    alone = [explain(image[None], n) for image, n in zip(images, (0, 1, 2, 0), strict=True)]
    for one, other in zip(together, alone, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_a_layer_that_the_answer_does_not_need_is_an_error() -> None:
    class Idle(LooksOnce):
        def __init__(self) -> None:
            super().__init__()
            self.idle = nn.Conv2d(1, 1, 1)

    with pytest.raises(PipelineError, match="does not depend on the layer"):
        Explainer(seeded(Idle), "idle")(torch.rand(1, 1, 40, 48), 0)
