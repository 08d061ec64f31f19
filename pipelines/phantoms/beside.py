"""A simulated image beside a real one, for the eye: python -m pipelines.phantoms.beside ...

`hip FILE.dcm`: a phantom hip without and one with a device, at the real radiograph's pixel size.
`lumbar CT.nii.gz --body MASK.nii.gz`: a phantom's axial and sagittal slice through L3 beside the
real ones through the middle of the mask.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.pixels import apply_modality_lut

from pipelines.phantoms.hip import hip_radiograph
from pipelines.phantoms.lumbar import lumbar_ct

Picture = tuple[str, npt.NDArray[np.floating], float]
"""Title, pixels, and how much higher a pixel is than wide."""

_BONE_WINDOW = (-150.0, 450.0)


def hips(file: Path, seed: int = 5001) -> list[Picture]:
    """Return the real radiograph (CR or DX), a phantom hip, and one with a sliding hip screw."""
    dataset = dcmread(file)
    real = np.asarray(apply_modality_lut(dataset.pixel_array, dataset), np.float32)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        real = real.max() - real
    spacing = float((dataset.get("ImagerPixelSpacing") or dataset.get("PixelSpacing") or [0.2])[0])
    made = [
        (f"simulated, {device}", hip_radiograph(seed, device, spacing_mm=spacing).image)
        for device in ("none", "sliding_screw")
    ]
    pictures = [("real", real), *((name, image.astype(np.float32)) for name, image in made)]
    return [(name, _stretched(image), 1.0) for name, image in pictures]


def lumbar_slices(ct: Path, body: Path, seed: int = 1003) -> list[Picture]:
    """Return axial and sagittal slices of a real CT and of a phantom, in one bone window."""
    import nibabel as nib

    real = nib.as_closest_canonical(nib.load(ct))
    mask = np.asanyarray(nib.as_closest_canonical(nib.load(body)).dataobj) > 0
    phantom = lumbar_ct(seed)
    turned = nib.as_closest_canonical(nib.Nifti1Image(phantom.volume, phantom.affine))
    at = phantom.affine @ [*phantom.truth.centres["L3"], 1]
    middle = np.linalg.inv(turned.affine) @ at
    shown = [
        ("real", np.asanyarray(real.dataobj), real.header.get_zooms(), np.argwhere(mask).mean(0)),
        ("simulated", np.asanyarray(turned.dataobj), turned.header.get_zooms(), middle[:3]),
    ]
    pictures: list[Picture] = []
    for name, volume, spacing, centre in shown:
        x, _, z = (round(float(c)) for c in centre)
        axial, sagittal = volume[:, ::-1, z].T, volume[x, ::-1, ::-1].T
        pictures.append((f"{name}, axial", _windowed(axial), spacing[1] / spacing[0]))
        pictures.append((f"{name}, sagittal", _windowed(sagittal), spacing[2] / spacing[1]))
    return pictures


def _stretched(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    low, high = np.percentile(image, (0.5, 99.5))
    return np.clip((image - low) / max(high - low, 1), 0, 1)


def _windowed(values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    low, high = _BONE_WINDOW
    return np.clip((values - low) / (high - low), 0, 1)


def draw(pictures: Sequence[Picture], output: Path) -> None:
    """Write the pictures side by side as one PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(pictures), 6.5), layout="constrained")
    for axes, (title, pixels, aspect) in zip(
        figure.subplots(1, len(pictures)), pictures, strict=True
    ):
        axes.imshow(pixels, cmap="gray", aspect=aspect, vmin=0, vmax=1)
        axes.set_title(title)
        axes.axis("off")
    figure.savefig(output, dpi=130)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("hip", "lumbar"))
    parser.add_argument("real", type=Path)
    parser.add_argument("--body", type=Path, help="mask of the vertebral bodies (lumbar)")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    if options.what == "hip":
        pictures = hips(options.real)
    elif options.body is None:
        parser.error("lumbar needs --body")
    else:
        pictures = lumbar_slices(options.real, options.body)
    draw(pictures, options.output)


if __name__ == "__main__":
    main()
