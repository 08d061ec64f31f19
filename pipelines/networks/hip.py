"""A small residual network for radiographs, quick on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


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


def _without_distances(
    network: nn.Module, state: dict[str, Tensor], prefix: str, *_: object
) -> None:
    """Weights that were made before there were distances have none: theirs is always 0."""
    for name in ("centres", "whitening"):
        state.setdefault(prefix + name, torch.zeros_like(getattr(network, name)))


class HipDeviceNet(nn.Module):
    """[N, 1, H, W] in 0..1 to [N, classes + 1]: logits, then how strange. Grad-CAM: `features`.

    Each image is standardised inside, so that gain and offset of the exposure do not matter.

    The last number is the Mahalanobis distance of the pooled features to the nearest known device
    (Lee et al., NeurIPS 2018, arXiv 1807.03888): metal that resembles a device is called that
    device with a high probability, and still lies far from its images. 0 until `know` was called.

    Args:
        classes: Of the catalogue, and the three after it (none, other, not an AP view).
    """

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 5, 2, 2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            _Residual(width, 2 * width, 2),
            _Residual(2 * width, 4 * width, 2),
            _Residual(4 * width, 6 * width, 2),
            _Residual(6 * width, 8 * width, 1),
        )
        self.dropout = nn.Dropout(0.2)
        pooled = 2 * 8 * width
        self.head = nn.Linear(pooled, classes)
        self.centres: Tensor
        self.whitening: Tensor
        self.register_buffer("centres", torch.zeros(classes - 3, pooled))
        self.register_buffer("whitening", torch.zeros(pooled, pooled))
        self.register_load_state_dict_pre_hook(_without_distances)

    def forward(self, image: Tensor) -> Tensor:
        pooled = self.pooled(image)
        away = torch.cdist(pooled @ self.whitening, self.centres @ self.whitening)
        return torch.cat([self.head(self.dropout(pooled)), away.amin(1, keepdim=True)], 1)

    def pooled(self, image: Tensor) -> Tensor:
        """[N, 1, H, W] to the features that the answer is made of, [N, 16 x width]."""
        mean = image.mean((1, 2, 3), keepdim=True)
        spread = image.std((1, 2, 3), keepdim=True).clamp_min(1e-4)
        features = self.features((image - mean) / spread)
        # the mean sees the hip, the maximum a wire that fills a thousandth of the image
        return torch.cat([features.mean((2, 3)), features.amax((2, 3))], dim=1)

    def know(self, pooled: Tensor, labels: Tensor) -> None:
        """Learn where the images of the known devices lie, from `pooled` features and labels.

        The spread is that within the devices, shrunk by a tenth towards a sphere so that few
        images do. A device without an image keeps its centre at 0, far from everything.
        """
        within = []
        for device in range(len(self.centres)):
            own = pooled[labels == device].double()
            if len(own):
                self.centres[device] = own.mean(0)
                within.append(own - own.mean(0))
        if not within:
            return
        spread = torch.cov(torch.cat(within).T)
        sphere = torch.eye(len(spread), dtype=torch.float64) * spread.diagonal().mean()
        shrunk = 0.9 * spread + 0.1 * sphere + 1e-9 * torch.eye(len(spread))
        self.whitening.copy_(torch.linalg.cholesky(torch.linalg.inv(shrunk)))
