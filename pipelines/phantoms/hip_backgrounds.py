"""Real backgrounds for simulated devices: radiographs of hips without metal, and projected CT.

    python -m pipelines.phantoms.hip_backgrounds CT.nii.gz --output PELVIS.png

projects the pelvis of a CT to an AP image of 1 mm a pixel (16 bits, bright bone), in which the
femoral heads are then marked, as in radiographs, in a table with the columns

    file, side, head_row, head_column, shaft_row, shaft_column, mm_per_pixel

The head is its centre, the shaft a point on its axis about 100 mm below; both in pixels. DICOM
files are read as the node reads them, pictures are grey with bright bone. The table is read by
`pipelines.hip_fixation_device.mixing`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from pipelines.phantoms.hip import HipPhantom, expose, femur_pose, metal, with_metal
from pipelines.phantoms.outlines import Array

_WATER: Final = 0.019
"""Attenuation of water at about 70 keV, 1/mm; CT numbers are relative to it."""
_SCATTER: Final = 0.4
"""Scattered over transmitted rays behind a grid."""
_MOST_HU: Final = 1800.0
"""What is denser is metal, of which a background is to have none."""
_SHAFT: Final = complex(-47.0, 100.0)
"""Where the marked point of the shaft lies in the devices' own coordinates, mm."""
_FILM_MM: Final = (330.0, 260.0)
_HEAD_AT: Final = (0.36, 0.5)
_SPACING_MM: Final = 1.0


@dataclass(frozen=True, eq=False)
class Background:
    """A hip without metal: [H, W] in 0..1, bright bone; places as (row, column) in pixels."""

    image: npt.NDArray[np.float32]
    spacing_mm: float
    head: tuple[float, float]
    shaft: tuple[float, float]
    side: str

    def coordinates(self) -> tuple[Array, Array]:
        """Each pixel's (x, y) in the devices' coordinates: head and shaft lie where they are.

        x goes to the inner side, y down; turned, and scaled to the femur's size.
        """
        inwards = 1.0 if self.side == "R" else -1.0
        rows, columns = np.mgrid[: self.image.shape[0], : self.image.shape[1]]
        place = self.spacing_mm * ((columns - self.head[1]) * inwards + 1j * (rows - self.head[0]))
        shaft = complex((self.shaft[1] - self.head[1]) * inwards, self.shaft[0] - self.head[0])
        own = place / (shaft * self.spacing_mm / _SHAFT)
        return own.real, own.imag


def project(hu: npt.NDArray[np.floating], spacing: Sequence[float]) -> npt.NDArray[np.float32]:
    """Project a CT to an AP image [rows, columns] of 1 mm a pixel, 0..1 with bright bone.

    Parallel rays are weakened by Beer-Lambert's law; scatter is a wide blur of what comes through.

    Args:
        hu: [X, Y, Z] to the right, front and head.
        spacing: mm along them.
    """
    weakening = _WATER * np.clip(1 + np.minimum(hu, _MOST_HU) / 1000, 0, None)
    lines = weakening.sum(1).T[::-1, ::-1] * spacing[1]  # head up, patient's right on the left
    lines = ndimage.zoom(lines, (spacing[2], spacing[0]), order=3, mode="nearest", grid_mode=True)
    through = np.exp(-np.clip(lines, 0, None))
    through = through + _SCATTER * ndimage.gaussian_filter(through, 30.0)
    dark = -np.log(through)
    low, high = np.percentile(dark[lines > 0.5], (1, 99.8))
    return np.asarray(np.clip((dark - low) / (high - low), 0, 1), np.float32)


def hip_on(background: Background, seed: int, device: str = "none") -> HipPhantom:
    """Make a radiograph: a device (as in `hip_radiograph`), posed by chance, in a real hip."""
    rng = np.random.default_rng(seed)
    femur, turn = femur_pose(rng, "AP")
    x, y = background.coordinates()
    image = background.image * 0.9
    image = with_metal(image, metal(x, y, rng, device, femur, turn), rng)
    image = ndimage.gaussian_filter(image, 0.35 / background.spacing_mm)
    image = expose(image, rng, background.spacing_mm)
    stored = np.clip(image * 4095, 0, 4095).astype(np.uint16)
    return HipPhantom(stored, background.spacing_mm, background.head, background.side, device, "AP")


def film(whole: Background) -> Background:
    """Cut a film of usual size around the head, at 1 mm a pixel; beyond the image is its edge."""
    step = _SPACING_MM / whole.spacing_mm
    size = [round(mm / _SPACING_MM) for mm in _FILM_MM]
    head = [share * n for share, n in zip(_HEAD_AT, size, strict=True)]
    # reduced before it is sampled, or fine noise would alias
    smooth = ndimage.gaussian_filter(whole.image, max(0.0, 0.45 * (step - 1)))
    rows, columns = (
        centre + (np.arange(n) - at) * step
        for centre, n, at in zip(whole.head, size, head, strict=True)
    )
    where = np.meshgrid(rows, columns, indexing="ij")
    image = ndimage.map_coordinates(smooth, where, order=1, mode="nearest")
    shaft = [at + (s - h) / step for at, s, h in zip(head, whole.shaft, whole.head, strict=True)]
    return Background(image, _SPACING_MM, (head[0], head[1]), (shaft[0], shaft[1]), whole.side)


def main(arguments: Sequence[str] | None = None) -> None:
    import nibabel as nib

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ct", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    volume = nib.as_closest_canonical(nib.load(options.ct))
    spacing = [float(v) for v in volume.header.get_zooms()[:3]]
    image = project(np.asanyarray(volume.dataobj, np.float32), spacing)
    Image.fromarray(np.round(image * 65535).astype(np.uint16)).save(options.output)


if __name__ == "__main__":
    main()
