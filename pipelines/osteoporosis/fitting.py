"""The one way the osteoporosis networks are trained: a head on what is there, then everything."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.knee_kl_ensemble.augmentation import augmented
from pipelines.networks.knee_osteoporosis import KneeClassifier

Pixels = npt.NDArray[np.uint8]
Step = Callable[[int, int, float], None]
"""Called after each step: its number, how many there are, its loss."""

_CLIP: Final = 5.0
_AT_ONCE: Final = 32


def possible_loss(logits: Tensor, possible: Tensor) -> Tensor:
    """Return the negative log probability that the class is one of the possible ones.

    Args:
        possible: [N, classes], 1 for each class that the label leaves open. "Osteoporosis" in a
            two-class table leaves osteopenia open; a label of one class makes this cross entropy.
    """
    return -(logits.log_softmax(1) + (possible + 1e-9).log()).logsumexp(1).mean()


def soft_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross entropy with soft targets [N, classes]."""
    return -(targets * logits.log_softmax(1)).sum(1).mean()


def fit_all(
    network: KneeClassifier,
    images: Pixels,
    targets: Tensor,
    settings: Mapping[str, Any],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    step: Step | None = None,
    start: int = 0,
) -> list[float]:
    """Train all layers (but the first `frozen_layers` of the body) with a warm, then cosine rate.

    Args:
        images: [N, side, side], 0 to 255.
        settings: `sizes` (side of the images, epoch by epoch), `batch`, `rate`, `head_rate`,
            `weight_decay`, `frozen_layers`, `frozen_statistics` (batch normalisation keeps those it
            came with: a few images have none worth taking), `seed`, `augmentation`.
        start: Epochs that are done already.

    Returns:
        The mean loss of each epoch.
    """
    torch.manual_seed(int(settings["seed"]))
    rng = np.random.default_rng(int(settings["seed"]))
    sizes = [int(size) for size in settings["sizes"]]
    batch = int(settings["batch"])
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    frozen = nn.ModuleList(list(network.body.children())[: int(settings["frozen_layers"])])
    kept = {id(parameter) for parameter in frozen.parameters()}
    body = [p for p in network.body.parameters() if id(p) not in kept]
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)
    rates = (float(settings["rate"]), float(settings["head_rate"]))
    optimizer = torch.optim.AdamW(
        [{"params": body}, {"params": network.head.parameters()}],
        weight_decay=float(settings["weight_decay"]),
    )
    per_epoch = max(1, len(images) // batch)
    steps, done = per_epoch * len(sizes), 0
    means = []
    for epoch, size in enumerate(sizes):
        order = rng.permutation(len(images))
        losses = []
        for place in range(per_epoch):
            chosen = order[place * batch : (place + 1) * batch]
            factor = min(1.0, (done + 1) / max(1, steps // 10))
            factor *= 0.5 * (1 + math.cos(math.pi * done / steps))
            done += 1
            if epoch < start:
                continue
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            inputs = torch.from_numpy(images[chosen])[:, None].float() / 255
            inputs = augmented(inputs, size, settings["augmentation"])
            network.train()
            for module in _unmoved(network, frozen, bool(settings["frozen_statistics"])):
                module.eval()
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(inputs.contiguous(memory_format=torch.channels_last))
            loss = loss_of(logits.float(), targets[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
            optimizer.step()
            losses.append(float(loss.item()))
            if step is not None:
                step(done, steps, losses[-1])
        means.append(float(np.mean(losses)) if losses else math.nan)
    for parameter in frozen.parameters():
        parameter.requires_grad_(True)
    return means


def _unmoved(network: nn.Module, frozen: nn.Module, statistics: bool) -> list[nn.Module]:
    """The modules that stay in evaluation mode while the network is trained."""
    kept = [m for m in network.modules() if statistics and isinstance(m, nn.BatchNorm2d)]
    return [frozen, *kept]


def pooled_features(network: KneeClassifier, images: Pixels, size: int) -> Tensor:
    """Return the features of images and mirror images, averaged: [N, channels]."""
    network.eval()
    found = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(images), _AT_ONCE):
            inputs = at_size(images[start : start + _AT_ONCE], size)
            both = network.pooled(inputs).float() + network.pooled(inputs.flip(-1)).float()
            found.append(both / 2)
    return torch.cat(found).clone()


def fit_head(network: KneeClassifier, features: Tensor, possible: Tensor, decay: float) -> float:
    """Fit the head alone to features of a body that stays as it is; return the last loss.

    A convex problem (logistic regression, where labels are certain), solved by L-BFGS.

    Args:
        decay: Of the weights, on features of spread 1.
    """
    mean, spread = features.mean(0), features.std(0).clamp_min(1e-6)
    inputs = (features - mean) / spread
    weight = torch.zeros(possible.shape[1], features.shape[1], requires_grad=True)
    bias = torch.zeros(possible.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")
    last = math.inf

    def closure() -> float:
        nonlocal last
        optimizer.zero_grad()
        loss = possible_loss(F.linear(inputs, weight, bias), possible)
        loss = loss + decay * weight.square().sum()
        loss.backward()
        last = float(loss.item())
        return last

    optimizer.step(closure)  # type: ignore[arg-type]
    with torch.no_grad():
        network.head.weight.copy_(weight / spread)
        network.head.bias.copy_(bias - (weight / spread) @ mean)
    return last


def logits_of(network: KneeClassifier, images: Pixels, size: int) -> npt.NDArray[np.float64]:
    """Return logits [N, classes] of images and mirror images, averaged."""
    with torch.inference_mode():
        logits = network.head(pooled_features(network, images, size))
    found: npt.NDArray[np.float64] = logits.double().numpy()
    return found


def at_size(images: Pixels, size: int) -> Tensor:
    """Return images as the network takes them: [N, 1, size, size] in 0..1."""
    inputs = torch.from_numpy(images)[:, None].float() / 255
    if images.shape[-1] != size:
        inputs = F.interpolate(
            inputs, (size, size), mode="bilinear", antialias=True, align_corners=False
        )
    return inputs.contiguous(memory_format=torch.channels_last)
