"""An ensemble of networks, each at its own image size, that vote on a class.

Source: Pi et al., Sci Rep 2023;13:22887, doi 10.1038/s41598-023-50210-4: each network looks at
the joint at the size that suits it best, at the image and at its mirror image, and the networks
vote hard, soft, or by a mix of both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


class Member(nn.Module):
    """One network and the image size at which it was trained."""

    def __init__(self, network: str, image_size: int, classes: int) -> None:
        super().__init__()
        if network not in NETWORKS:
            raise ValueError(f"no network is called {network!r}; known: {', '.join(NETWORKS)}")
        self.image_size = image_size
        self.network = NETWORKS[network](classes)

    def forward(self, image: Tensor) -> Tensor:
        """[N, 1, H, W] of any contrast to [N, classes] logits."""
        if image.shape[-2:] != (self.image_size, self.image_size):
            image = F.interpolate(
                image,
                (self.image_size, self.image_size),
                mode="bilinear",
                antialias=True,
                align_corners=False,
            )
        logits: Tensor = self.network(standardised(image))
        return logits


class KLEnsemble(nn.Module):
    """The vote of the members: [N, 1, H, W] to log probabilities [N, classes].

    Args:
        members: Each `{network: name, image_size: pixels}`.
        vote: soft: mean probability; hard: share of the votes, ties broken by the mean
            probability; mix: the mean of both.
        mirrored: Each member looks at the image and at its mirror image.
    """

    def __init__(
        self,
        members: Sequence[Mapping[str, Any]],
        classes: int = 5,
        vote: Vote = "soft",
        mirrored: bool = True,
    ) -> None:
        super().__init__()
        if vote not in ("soft", "hard", "mix"):
            raise ValueError(f"vote is {vote!r}; it may be soft, hard or mix")
        self.members = nn.ModuleList(
            Member(str(m["network"]), int(m["image_size"]), classes) for m in members
        )
        self.vote = vote
        self.mirrored = mirrored

    def forward(self, image: Tensor) -> Tensor:
        return torch.log(voted(self.member_logits(image), self.vote).clamp_min(1e-8))

    def member_logits(self, image: Tensor) -> Tensor:
        """Return each member's logits, the mirror image's averaged in: [members, N, classes]."""
        logits = [member(image) for member in self.members]
        if self.mirrored:
            mirror = image.flip(-1)
            logits = [
                (own + member(mirror)) / 2 for own, member in zip(logits, self.members, strict=True)
            ]
        return torch.stack(logits)


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
