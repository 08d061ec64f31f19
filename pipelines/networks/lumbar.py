"""The two networks of `lumbar_bmd_ct` in one module, so that one weight file holds both."""

from __future__ import annotations

from typing import Final

import torch
from monai.networks.nets import UNet
from torch import Tensor, nn

from pipelines.transforms.lumbar_hu import INTERCEPT, SLOPE

BMD_CENTRE: Final = 120.0
BMD_SCALE: Final = 50.0
_HU_SCALE: Final = 200.0
_WINDOWS: Final = (3, 6, 9)
"""Half sides, in pixels, of the windows whose mean density goes straight to the last layer."""
LOCATOR_CHANNELS: Final = ("body", "s1", "disc")


class SliceBMD(nn.Module):
    """A small CNN: one axial image of a vertebra to its BMD and how sure it is.

    Input [N, 1, h, w] in HU; output [N, 2]: BMD in mg/cm³ and the natural logarithm of its
    variance (heteroscedastic regression, Nix and Weigend 1994).
    """

    def __init__(self, channels: tuple[int, ...] = (8, 16, 32, 48, 64), dropout: float = 0.1):
        super().__init__()
        stages: list[nn.Module] = []
        previous = 1
        for index, width in enumerate(channels):
            stages += [
                nn.Conv2d(previous, width, 3, stride=1 if index == 0 else 2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            if index:
                stages += [
                    nn.Conv2d(width, width, 3, padding=1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(inplace=True),
                ]
            previous = width
        self.features = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(previous * 2 + len(_WINDOWS), 2)
        self._start_linear()

    def _start_linear(self) -> None:
        """Begin at the published relation applied to the middle window's mean HU."""
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            self.head.weight[0, -2] = SLOPE * _HU_SCALE / BMD_SCALE
            self.head.bias[0] = (INTERCEPT - BMD_CENTRE) / BMD_SCALE

    def forward(self, hu: Tensor) -> Tensor:
        x = torch.clamp(hu, -200.0, 900.0) / _HU_SCALE
        maps = self.features(x)
        # The middle of the crop is the vertebral body; its features count on their own too.
        size = maps.shape[-1]
        edge = size // 4
        middle = maps[..., edge : size - edge, edge : size - edge]
        pooled = torch.cat([self.pool(maps), self.pool(middle)], dim=1).flatten(1)
        # Density itself, past the normalised layers: mean HU of windows in the middle.
        side = x.shape[-1]
        density = [
            self.pool(x[..., side // 2 - n : side // 2 + n, side // 2 - n : side // 2 + n])
            for n in _WINDOWS
        ]
        out = self.head(torch.cat([self.dropout(pooled), *(d.flatten(1) for d in density)], dim=1))
        mean = out[:, :1] * BMD_SCALE + BMD_CENTRE
        log_variance = torch.clamp(out[:, 1:] + 4.0, 0.0, 9.0)
        return torch.cat([mean, log_variance], dim=1)


class VertebraLocator(nn.Module):
    """A small 3-D U-Net on a 4 mm grid: vertebral bodies, S1 and discs.

    Input [N, 1, X, Y, Z] in HU, RAS, sides divisible by 8; output logits [N, 3, X, Y, Z] in
    the order of `LOCATOR_CHANNELS`.
    """

    def __init__(self, channels: tuple[int, ...] = (16, 32, 64, 96)):
        super().__init__()
        self.unet = UNet(
            spatial_dims=3,
            in_channels=2,
            out_channels=8,
            channels=channels,
            strides=(2,) * (len(channels) - 1),
            num_res_units=1,
            norm=("GROUP", {"num_groups": 4}),
        )
        self.head = nn.Conv3d(8, len(LOCATOR_CHANNELS), 1)

    def forward(self, hu: Tensor) -> Tensor:
        soft = torch.clamp((hu - 40.0) / 120.0, -1.5, 1.5)
        bone = torch.clamp((hu - 250.0) / 300.0, -1.2, 2.5)
        logits: Tensor = self.head(self.unet(torch.cat([soft, bone], dim=1)))
        return logits


class LumbarBMD(nn.Module):
    """Both networks; `forward` is the BMD of axial images, `locate` finds the vertebrae."""

    def __init__(
        self,
        bmd_channels: tuple[int, ...] = (8, 16, 32, 48, 64),
        locator_channels: tuple[int, ...] = (16, 32, 64, 96),
    ):
        super().__init__()
        self.bmd = SliceBMD(tuple(bmd_channels))
        self.locator = VertebraLocator(tuple(locator_channels))

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.bmd(image)
        return out

    @torch.inference_mode()
    def locate(self, volume: Tensor) -> Tensor:
        """Probabilities [3, X, Y, Z] for one volume [X, Y, Z] in HU on the 4 mm RAS grid."""
        device = next(self.parameters()).device
        size = volume.shape
        padded = [-(-n // 8) * 8 for n in size]
        full = torch.full(padded, -1000.0, device=device)
        full[: size[0], : size[1], : size[2]] = volume.to(device)
        logits = self.locator(full[None, None])[0]
        return torch.sigmoid(logits)[:, : size[0], : size[1], : size[2]].cpu()
