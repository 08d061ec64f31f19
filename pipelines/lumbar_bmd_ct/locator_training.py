"""Training the vertebra locator: few anatomies, heavy augmentation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from pipelines.lumbar_bmd_ct.anatomy import Anatomy, body_names, disc_mask
from pipelines.networks.lumbar import VertebraLocator
from pipelines.transforms.lumbar_grid import ras_grid
from pipelines.transforms.lumbar_locator import GRID_MM

WINDOW = (48, 64, 64)
_SOURCE_MM = 3.0


def prepare(anatomy: Anatomy) -> tuple[Tensor, Tensor]:
    """An anatomy on a 3 mm RAS grid: [5, X, Y, Z] of HU, body, S1, disc, and how deep in bone.

    Returns the volume and the middle of its spine (grid index).
    """

    def grid(values: np.ndarray) -> Tensor:
        return ras_grid(
            torch.from_numpy(np.ascontiguousarray(values, np.float32)), anatomy.affine, _SOURCE_MM
        ).data

    names = body_names(anatomy)
    bodies = (anatomy.labels > 0) & (anatomy.labels != names.get("S1", 0))
    depth = ndimage.distance_transform_edt(anatomy.labels > 0, anatomy.spacing)
    inner = np.clip((depth - 1.5) / 3.0, 0, 1)
    stacked = torch.stack(
        [
            grid(anatomy.hu),
            grid(bodies),
            grid(anatomy.labels == names.get("S1", 255)),
            grid(disc_mask(anatomy.labels, anatomy.spacing)),
            grid(inner),
        ]
    )
    where = torch.nonzero(stacked[1] > 0.5).float()
    return stacked, (where.amin(0) + where.amax(0)) / 2


def sample(
    prepared: tuple[Tensor, Tensor], real: bool, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """One augmented window: HU [1, X, Y, Z] and targets [3, X, Y, Z]."""
    source, middle = prepared
    size = torch.tensor(source.shape[1:], dtype=torch.float32)
    angles = np.deg2rad(rng.normal(0, (6, 5, 6)))
    scale = rng.uniform(0.82, 1.2) * rng.uniform(0.93, 1.07, 3)
    matrix = torch.from_numpy(_rotation(angles) @ np.diag(GRID_MM / _SOURCE_MM / scale)).float()
    # Lean the spine as the lordosis of another patient would: y moves with the square of z.
    offset = torch.from_numpy(rng.normal((0, 0, -8), (2.5, 12, 16))).float()
    axes = [torch.arange(n) - (n - 1) / 2 for n in WINDOW]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    at = points @ matrix.T + middle + offset + torch.tensor([0.0, rng.uniform(-4, 22), 0.0])
    bend = torch.tensor(rng.normal(0, (0.0012, 0.0022)), dtype=torch.float32)
    height = points[..., 2]
    at[..., 0] += bend[0] * height**2
    at[..., 1] += bend[1] * height**2
    wobble = functional.interpolate(
        torch.from_numpy(rng.normal(0, 1.2, (1, 3, 5, 6, 6))).float(),
        size=WINDOW,
        mode="trilinear",
        align_corners=True,
    )[0]
    at = at + wobble.permute(1, 2, 3, 0)
    if rng.random() < 0.5:
        at[..., 0] = 2 * middle[0] - at[..., 0]
    normal = (2 * at + 1) / size - 1
    shifted = source.clone()
    shifted[0] += 1000.0
    if real:
        shifted[0] += _bone_change(shifted, rng) * source[4]
    warped = functional.grid_sample(
        shifted[None], normal[None][..., [2, 1, 0]], align_corners=False, padding_mode="zeros"
    )[0]
    hu = warped[:1] - 1000.0
    hu = hu * rng.normal(1, 0.03) + rng.normal(0, 8)
    if rng.random() < 0.4:
        blur = ndimage.gaussian_filter(hu[0].numpy(), rng.uniform(0.2, 0.8))
        hu = torch.from_numpy(blur)[None]
    hu = hu + torch.from_numpy(rng.normal(0, rng.uniform(2, 22), hu.shape)).float()
    if rng.random() < 0.15:  # reconstructed around the spine only
        for axis in (1, 2):
            margin = rng.integers(0, WINDOW[axis - 1] // 4, 2)
            edge = [slice(None)] * 4
            for side in (slice(0, margin[0]), slice(WINDOW[axis - 1] - margin[1], None)):
                edge[axis] = side
                hu[tuple(edge)] = -1000.0
                warped[1:4][tuple(edge)] = 0.0
    if rng.random() < 0.35:  # scans that begin above the sacrum or end within the lumbar spine
        cut = int(rng.integers(0, 34))
        if rng.random() < 0.5:
            hu[..., :cut], warped[1:4, ..., :cut] = -1000.0, 0.0
        else:
            hu[..., WINDOW[2] - cut :], warped[1:4, ..., WINDOW[2] - cut :] = -1000.0, 0.0
    return hu, warped[1:4].clamp(0, 1)


def _bone_change(source: Tensor, rng: np.random.Generator) -> Tensor:
    """HU to add in the bodies: another BMD, another texture."""
    inner = source[4] > 0.9
    mean = float((source[0][inner] - 1000.0).mean())
    texture = (source[0] - 1000.0 - mean).clamp(-150, 150)
    return rng.uniform(10, 260) - mean + (rng.uniform(0.4, 1.3) - 1) * texture


def _rotation(angles: np.ndarray) -> np.ndarray:
    a, b, c = angles
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray(rx @ ry @ rz)


def loss_of(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice, channel by channel."""
    entropy = functional.binary_cross_entropy_with_logits(logits, target)
    chance = torch.sigmoid(logits)
    axes = (0, 2, 3, 4)
    overlap = 2 * (chance * target).sum(axes) + 20.0
    total = (chance**2).sum(axes) + (target**2).sum(axes) + 20.0
    return 3 * entropy + (1 - overlap / total).mean()


def train_locator(
    network: VertebraLocator,
    anatomies: Sequence[Anatomy],
    steps: int,
    seconds: float,
    seed: int,
    real_share: float = 0.5,
    batch: int = 2,
    log: Callable[[str], None] = print,
) -> VertebraLocator:
    """Train in place until `steps` or `seconds` are over, whichever comes first."""
    rng = np.random.default_rng(seed)
    prepared = [(prepare(a), a.real) for a in anatomies]
    real = [p for p in prepared if p[1]]
    simulated = [p for p in prepared if not p[1]]
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-4)
    began = time.monotonic()
    network.train()
    recent: list[float] = []
    for step in range(steps):
        spent = (time.monotonic() - began) / seconds
        share = max(step / steps, spent)
        if share >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * share))
        chosen = []
        for _ in range(batch):
            pool = real if real and (not simulated or rng.random() < real_share) else simulated
            item, is_real = pool[int(rng.integers(len(pool)))]
            chosen.append(sample(item, is_real, rng))
        hu = torch.stack([c[0] for c in chosen])
        target = torch.stack([c[1] for c in chosen])
        loss = loss_of(network(hu), target)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        recent.append(float(loss.detach()))
        if (step + 1) % 25 == 0:
            log(
                f"locator step {step + 1} loss {np.mean(recent[-25:]):.4f} "
                f"{time.monotonic() - began:.0f} s"
            )
    network.eval()
    return network
