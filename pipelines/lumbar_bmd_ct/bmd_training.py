"""Training the CNN on simulated BMD: real and phantom anatomy with a drawn trabecular density."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from pipelines.lumbar_bmd_ct.anatomy import Anatomy, body_names
from pipelines.networks.lumbar import SliceBMD
from pipelines.phantoms.lumbar import lumbar_ct
from pipelines.transforms.lumbar_hu import hu_of_bmd
from pipelines.transforms.lumbar_slices import PIXEL_MM, SIZE, axial_crop

BANK_SIZE = 128
BANK_MM = 0.95
BMD_RANGE = (15.0, 240.0)


@dataclass(frozen=True)
class Bank:
    """Axial images whose BMD can be changed.

    Attributes:
        hu: [n, 128, 128] at 0.95 mm.
        inner: 0..1, how far inside the trabecular bone.
        cortex: 0..1, the body's shell.
        mean_hu: Trabecular mean HU of the body that each image belongs to, [n].
        known: BMD that a site measured for that body, NaN where it is to be drawn, [n].
        real: Whether it is a patient's image, [n].
    """

    hu: Tensor
    inner: Tensor
    cortex: Tensor
    mean_hu: Tensor
    known: Tensor
    real: Tensor


def narrow_phantoms(seeds: range) -> Iterable[Anatomy]:
    """Phantoms at fine resolution around the spine only."""
    for seed in seeds:
        rng = np.random.default_rng(20_000 + seed)
        spacing = (1.2, 1.2, float(rng.choice([1.5, 2.5, 3.0, 5.0])))
        phantom = lumbar_ct(
            seed,
            bmd_mg_cm3=float(rng.uniform(60, 180)),
            spacing=spacing,
            size=150,
            slices=int(235 / spacing[2]),
            bottom_mm=-10.0,
            noise_hu=float(rng.uniform(2, 6)),
            kernel_mm=float(rng.uniform(0.3, 0.9)),
        )
        yield Anatomy(
            f"phantom-{seed}",
            phantom.volume.astype(np.float32),
            spacing,
            phantom.truth.labels,
            False,
            dict(phantom.truth.bmd),
        )


def build_bank(anatomies: Iterable[Anatomy], erosion_mm: float = 4.5) -> Bank:
    """Cut the images through the middle of T12 to L5 out of each anatomy."""
    hu, inner, cortex, means, known, real = [], [], [], [], [], []
    for anatomy in anatomies:
        volume = torch.from_numpy(anatomy.hu)
        affine = anatomy.affine
        for level, label in body_names(anatomy).items():
            if level in {"S1", "T8", "T9", "T10"}:
                continue
            mask = anatomy.labels == label
            if mask[:, :, (0, -1)].any():  # cut by the volume's edge
                continue
            box = tuple(
                slice(max(0, s.start - 3), s.stop + 3)
                for s in ndimage.find_objects(mask.astype(np.uint8))[0]
            )
            depth = np.zeros(mask.shape, np.float32)
            depth[box] = ndimage.distance_transform_edt(mask[box], anatomy.spacing)
            roi = depth > erosion_mm
            if roi.sum() * np.prod(anatomy.spacing) < 2000:
                continue
            mean = float(anatomy.hu[roi].mean())
            area = roi.sum((0, 1))
            soft = torch.from_numpy(np.clip((depth - 1.0) / 3.0, 0, 1))
            shell = torch.from_numpy(((depth > 0) & (depth <= 3.0)).astype(np.float32))
            for index in np.flatnonzero(area >= 0.5 * area.max()):
                rows, columns = np.nonzero(mask[:, :, index])
                centre = (float(rows.mean()), float(columns.mean()))
                for source, fill, kept in (
                    (volume, -1000.0, hu),
                    (soft, 0.0, inner),
                    (shell, 0.0, cortex),
                ):
                    kept.append(
                        axial_crop(
                            source, affine, centre, int(index), BANK_MM, BANK_SIZE, fill=fill
                        )[0]
                    )
                means.append(mean)
                known.append(anatomy.bmd.get(level, math.nan) if anatomy.real else math.nan)
                real.append(anatomy.real)
    return Bank(
        torch.stack(hu),
        torch.stack(inner),
        torch.stack(cortex),
        torch.tensor(means),
        torch.tensor(known),
        torch.tensor(real),
    )


def simulate(
    bank: Bank, chosen: Tensor, bmd: Tensor, rng: torch.Generator, augment: bool = True
) -> Tensor:
    """Images [n, 1, 80, 80] in HU of the chosen bank images with their BMD set to `bmd`.

    An image whose BMD is known keeps its HU, and `bmd` must be that BMD.

    HU follow the published relation with a scanner's own deviation (3 % in slope, 3 HU in
    offset); texture, cortex, noise, sharpness, shift, rotation and size vary.
    """
    n = len(chosen)
    draw = lambda low, high: low + (high - low) * torch.rand(n, 1, 1, generator=rng)  # noqa: E731
    normal = lambda sd: sd * torch.randn(n, 1, 1, generator=rng)  # noqa: E731
    hu, inner, cortex = bank.hu[chosen], bank.inner[chosen], bank.cortex[chosen]
    mean = bank.mean_hu[chosen].view(n, 1, 1)
    target = torch.tensor([hu_of_bmd(float(b)) for b in bmd]).view(n, 1, 1)
    target = target * (1 + normal(0.03)) + normal(3.0)
    texture = (hu - mean).clamp(-120, 120) * (
        draw(0.5, 1.3) * (target.clamp(min=20) / 130) ** 0.5 - 1
    )
    free = bank.known[chosen].isnan().float().view(n, 1, 1)
    change = inner * (target - mean + texture)
    change += cortex * (1 - inner) * (target - mean).clamp(-120, 160) * draw(0.3, 0.9)
    hu = hu + free * change
    if not augment:
        return _view(hu, torch.zeros(n), torch.zeros(n, 2), torch.ones(n))
    angle = 0.2 * torch.randn(n, generator=rng)
    shift = 4.0 * torch.randn(n, 2, generator=rng)
    scale = 0.88 + 0.26 * torch.rand(n, generator=rng)
    out = _view(hu, angle, shift, scale)
    if float(torch.rand(1, generator=rng)) < 0.5:
        out = out.flip(-1)
    if float(torch.rand(1, generator=rng)) < 0.25:  # reconstructed around the spine only
        sides = torch.randint(0, SIZE // 5, (4,), generator=rng)
        out[..., : sides[0], :] = -1000.0
        out[..., SIZE - sides[1] :, :] = -1000.0
        out[..., : sides[2]] = -1000.0
        out[..., SIZE - sides[3] :] = -1000.0
    sigma = 0.3 + 0.7 * float(torch.rand(1, generator=rng))
    out = _blur(out, sigma) if float(torch.rand(1, generator=rng)) < 0.6 else out
    white = torch.randn(out.shape, generator=rng)
    grain = _blur(white, 0.3 + 0.6 * float(torch.rand(1, generator=rng)))
    grain = grain / grain.std()
    return out + grain * draw(2, 28)[:, None] + normal(2.0)[:, None]


def _view(hu: Tensor, angle: Tensor, shift_mm: Tensor, scale: Tensor) -> Tensor:
    """Resample 128 px of 0.95 mm to 80 px of 1.25 mm, turned, moved and scaled."""
    n = len(hu)
    zoom = SIZE * PIXEL_MM / (BANK_SIZE * BANK_MM) / scale
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = torch.cos(angle) * zoom, -torch.sin(angle) * zoom
    theta[:, 1, 0], theta[:, 1, 1] = torch.sin(angle) * zoom, torch.cos(angle) * zoom
    theta[:, :, 2] = shift_mm / (BANK_SIZE * BANK_MM / 2)
    grid = functional.affine_grid(theta, [n, 1, SIZE, SIZE], align_corners=False)
    moved = functional.grid_sample(hu[:, None] + 1000, grid, align_corners=False)
    return moved - 1000


def _blur(images: Tensor, sigma: float) -> Tensor:
    ticks = torch.arange(-2, 3, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (ticks / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = functional.pad(images, (2, 2, 2, 2), mode="replicate")
    across = functional.conv2d(padded, kernel.view(1, 1, 1, 5))
    return functional.conv2d(across, kernel.view(1, 1, 5, 1))


def train_bmd(
    network: SliceBMD,
    bank: Bank,
    steps: int,
    seconds: float,
    seed: int,
    real_share: float = 0.4,
    batch: int = 48,
    log: Callable[[str], None] = print,
) -> SliceBMD:
    """Gaussian likelihood after a start on the plain error; trains in place."""
    rng = torch.Generator().manual_seed(seed)
    pools: Sequence[Tensor] = [
        torch.nonzero(bank.real)[:, 0],
        torch.nonzero(~bank.real)[:, 0],
    ]
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-3)
    began = time.monotonic()
    network.train().to(memory_format=torch.channels_last)  # twice as fast on a CPU
    errors: list[float] = []
    for step in range(steps):
        share = max(step / steps, (time.monotonic() - began) / seconds)
        if share >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * share))
        want = (
            round(batch * real_share)
            if len(pools[0]) and len(pools[1])
            else (batch if len(pools[0]) else 0)
        )
        chosen = torch.cat(
            [
                pool[torch.randint(len(pool), (count,), generator=rng)]
                for pool, count in ((pools[0], want), (pools[1], batch - want))
                if count
            ]
        )
        low, high = BMD_RANGE
        drawn = low + (high - low) * torch.rand(batch, generator=rng)
        known = bank.known[chosen]
        bmd = torch.where(known.isnan(), drawn, known)
        images = simulate(bank, chosen, bmd, rng)
        out = network(images.contiguous(memory_format=torch.channels_last))
        error = out[:, 0] - bmd
        if share < 0.1:
            loss = functional.smooth_l1_loss(error / 10, torch.zeros_like(error))
        else:
            # Beta-NLL (Seitzer et al., ICLR 2022, beta = 0.5): plain likelihood lets the
            # network call hard images uncertain instead of learning them.
            likelihood = 0.5 * (out[:, 1] + error**2 / torch.exp(out[:, 1]))
            loss = (likelihood * torch.exp(0.5 * out[:, 1].detach())).mean() / 5
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        errors.append(float((error.detach() ** 2).mean()))
        if (step + 1) % 100 == 0:
            log(
                f"bmd step {step + 1} rmse {np.sqrt(np.mean(errors[-100:])):.2f} mg/cm3 "
                f"loss {float(loss.detach()):.3f} {time.monotonic() - began:.0f} s"
            )
    network.eval().to(memory_format=torch.contiguous_format)
    return network
