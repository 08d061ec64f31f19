"""A small residual network for radiographs, quick on a CPU."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

_DESCRIBING: Final = 3
"""So many blocks, the last ones, describe an image for the distance."""


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


class _Blocks(nn.Sequential):
    """Hands out what its last blocks made, on demand."""

    def forward(self, x: Tensor, seen: list[Tensor] | None = None) -> Tensor:
        for number, block in enumerate(self):
            x = block(x)
            if seen is not None and number >= len(self) - _DESCRIBING:
                seen.append(x)
        return x


def _older_distances(network: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Take weights whose distances look at the last block alone, or that have none (always 0)."""
    for name in ("centres", "whitening"):
        wanted = getattr(network, name)
        known = state.get(prefix + name)
        if known is None:
            state[prefix + name] = torch.zeros_like(wanted)
        elif known.shape[-1] < wanted.shape[-1]:
            # the last block's features stand last
            made = torch.zeros_like(wanted, dtype=known.dtype)
            made[-known.shape[0] :, -known.shape[1] :] = known
            state[prefix + name] = made


class HipDeviceNet(nn.Module):
    """[N, 1, H, W] in 0..1 to [N, classes + 1]: logits, then how strange. Grad-CAM: `features`.

    Each image is standardised inside, so that gain and offset of the exposure do not matter.

    The last number is the Mahalanobis distance to the nearest known device (Lee et al., NeurIPS
    2018, arXiv 1807.03888), taken over the pooled features of the last three blocks: metal that
    resembles a device is called that device with a high probability, and still lies far from its
    images. The answer rests on the last block alone, which keeps only what tells the known devices
    apart; an unknown one shows in those before it. 0 until `know` was called.

    Args:
        classes: Of the catalogue, and the three after it (none, other, not an AP view).
    """

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        self.features = _Blocks(
            nn.Conv2d(1, width, 5, 2, 2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            _Residual(width, 2 * width, 2),
            _Residual(2 * width, 4 * width, 2),
            _Residual(4 * width, 6 * width, 2),
            _Residual(6 * width, 8 * width, 1),
        )
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(2 * 8 * width, classes)
        described = 2 * (4 + 6 + 8) * width
        self.centres: Tensor
        self.whitening: Tensor
        self.register_buffer("centres", torch.zeros(classes - 3, described))
        self.register_buffer("whitening", torch.zeros(described, described))
        self.register_load_state_dict_pre_hook(_older_distances)

    def forward(self, image: Tensor) -> Tensor:
        described, pooled = self._pooled(image)
        away = torch.cdist(described @ self.whitening, self.centres @ self.whitening)
        return torch.cat([self.head(self.dropout(pooled)), away.amin(1, keepdim=True)], 1)

    def described(self, image: Tensor) -> Tensor:
        """[N, 1, H, W] to the features that distances are taken over, [N, 36 x width]."""
        return self._pooled(image)[0]

    def _pooled(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the last three blocks, the last one's last, and of the last one alone."""
        mean = image.mean((1, 2, 3), keepdim=True)
        spread = image.std((1, 2, 3), keepdim=True).clamp_min(1e-4)
        maps: list[Tensor] = []
        last = self.features((image - mean) / spread, maps)
        # the mean sees the hip, the maximum a wire that fills a thousandth of the image
        pooled = [torch.cat([m.mean((2, 3)), m.amax((2, 3))], 1) for m in (*maps[:-1], last)]
        return torch.cat(pooled, 1), pooled[-1]

    def know(self, described: Tensor, labels: Tensor) -> None:
        """Learn where the images of the known devices lie, from `described` features and labels.

        The spread is that within the devices, shrunk by a fifth towards a sphere so that few
        images do. A device without an image keeps its centre at 0, far from everything.
        """
        within = []
        for device in range(len(self.centres)):
            own = described[labels == device].double()
            if len(own):
                self.centres[device] = own.mean(0)
                within.append(own - own.mean(0))
        if not within:
            return
        spread = torch.cov(torch.cat(within).T)
        sphere = torch.eye(len(spread), dtype=torch.float64) * spread.diagonal().mean()
        shrunk = 0.8 * spread + 0.2 * sphere + 1e-9 * torch.eye(len(spread))
        self.whitening.copy_(torch.linalg.cholesky(torch.linalg.inv(shrunk)))
