"""An ensemble of networks, each at its own image size, that vote on a class.

Source: Pi et al., Sci Rep 2023;13:22887, doi 10.1038/s41598-023-50210-4: each network looks at
the joint at the size that suits it best, at the image and at its mirror image, and the networks
vote hard, soft, or by a mix of both. Looking at more than one framing of the joint is ours: a joint
that is framed a little otherwise, as by a finder in a film, should get the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
import torch.nn.functional as F
from monai.networks.nets import DenseNet121, EfficientNetBN, resnet50
from torch import Tensor, nn

from pipelines.networks.efficientnet_lite import EfficientNetLite

Vote = Literal["soft", "hard", "mix"]

NETWORKS: Final[Mapping[str, Callable[[int], nn.Module]]] = {
    "efficientnet_lite0": EfficientNetLite,
    "efficientnet_lite1": lambda n: EfficientNetLite(n, "efficientnet_lite1"),
    "efficientnet_lite2": lambda n: EfficientNetLite(n, "efficientnet_lite2"),
    "efficientnet_b0": lambda n: EfficientNetBN("efficientnet-b0", False, num_classes=n),
    "efficientnet_b5": lambda n: EfficientNetBN("efficientnet-b5", False, num_classes=n),
    "densenet121": lambda n: DenseNet121(2, 3, n),
    "resnet50": lambda n: resnet50(
        spatial_dims=2, n_input_channels=3, num_classes=n, conv1_t_stride=2
    ),
}
"""Networks that a member may name: a function of the number of classes, input [N, 3, h, w]."""


@dataclass(frozen=True, slots=True)
class View:
    """One look at the joint.

    Attributes:
        down: How far below the image's centre its own lies, in sides of the image.
        side: Of its square, in sides of the image; what lies outside repeats the border.
        mirrored: Left and right are exchanged.
    """

    down: float = 0.0
    side: float = 1.0
    mirrored: bool = False

    def of(self, image: Tensor, size: int) -> Tensor:
        """[N, 1, H, W] to [N, 1, size, size]."""
        if (self.down, self.side) != (0, 1):
            frame = image.new_tensor([[self.side, 0, 0], [0, self.side, 2 * self.down]])
            grid = F.affine_grid(
                frame.expand(len(image), 2, 3), [len(image), 1, size, size], align_corners=False
            )
            image = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
        elif image.shape[-2:] != (size, size):
            image = F.interpolate(
                image, (size, size), mode="bilinear", antialias=True, align_corners=False
            )
        return image.flip(-1) if self.mirrored else image


PLAIN_AND_MIRRORED: Final[tuple[View, ...]] = (View(), View(mirrored=True))


class Member(nn.Module):
    """One network, the image size at which it was trained, and the views that it looks at."""

    def __init__(
        self,
        network: str,
        image_size: int,
        classes: int,
        views: Sequence[View] = PLAIN_AND_MIRRORED,
    ) -> None:
        super().__init__()
        if network not in NETWORKS:
            raise ValueError(f"no network is called {network!r}; known: {', '.join(NETWORKS)}")
        if not views:
            raise ValueError("views is empty; it needs one at least")
        self.image_size = image_size
        self.views = tuple(views)
        self.network = NETWORKS[network](classes)

    def forward(self, image: Tensor) -> Tensor:
        """[N, 1, H, W] of any contrast to [N, classes] logits, the mean of the views."""
        return torch.stack([self.answer(image, view) for view in self.views]).mean(0)

    def answer(self, image: Tensor, view: View) -> Tensor:
        """[N, 1, H, W] to the logits of one view, [N, classes]."""
        logits: Tensor = self.network(standardised(view.of(image, self.image_size)))
        return logits


def _member(given: Mapping[str, Any], classes: int) -> Member:
    views = PLAIN_AND_MIRRORED
    if "views" in given:
        views = tuple(View(**view) for view in given["views"])
    return Member(str(given["network"]), int(given["image_size"]), classes, views)


class KLEnsemble(nn.Module):
    """The vote of the members: [N, 1, H, W] to log probabilities [N, classes].

    Args:
        members: Each `{network: name, image_size: pixels, views: [...]}`: it looks at each view,
            `{down: , side: , mirrored: }` as `View` has them, and means its logits; without views,
            at the image and its mirror image. The first member's first is what Grad-CAM explains.
        vote: soft: mean probability; hard: share of the votes, ties broken by the mean
            probability; mix: the mean of both.
    """

    def __init__(
        self,
        members: Sequence[Mapping[str, Any]],
        classes: int = 5,
        vote: Vote = "soft",
    ) -> None:
        super().__init__()
        if vote not in ("soft", "hard", "mix"):
            raise ValueError(f"vote is {vote!r}; it may be soft, hard or mix")
        self.members = nn.ModuleList(_member(m, classes) for m in members)
        self.vote = vote

    def forward(self, image: Tensor) -> Tensor:
        return torch.log(voted(self.member_logits(image), self.vote).clamp_min(1e-8))

    def member_logits(self, image: Tensor) -> Tensor:
        """Return each member's logits: [members, N, classes]."""
        return torch.stack([member(image) for member in self.members])


def voted(logits: Tensor, vote: Vote) -> Tensor:
    """Combine [members, N, classes] logits into [N, classes] that sum to 1."""
    soft = logits.softmax(-1).mean(0)
    if vote == "soft":
        return soft
    ballots = F.one_hot(logits.argmax(-1), logits.shape[-1]).to(soft).mean(0)
    if vote == "mix":
        return (soft + ballots) / 2
    # a millionth of the mean probability breaks ties and changes nothing else
    return (ballots + 1e-6 * soft) / (1 + 1e-6)


def standardised(image: Tensor) -> Tensor:
    """Give each image mean 0 and standard deviation 1, on three channels."""
    mean = image.mean((1, 2, 3), keepdim=True)
    spread = image.std((1, 2, 3), keepdim=True).clamp_min(1e-4)
    return ((image - mean) / spread).expand(-1, 3, -1, -1)
