"""How the finder frames a joint in a film, against the crop that the film was made of.

    python -m tests.benchmarks.knee_frames --data DIR --split val --images 80

DIR holds `labels.csv` and the joint crops. Films are those of `knee_wrapping`, in which the crop's
place is known. The published crops are themselves not framed alike; therefore the finder's frame is
also compared with the one that it puts around the joint in the crop alone. Per comparison: mean
and standard deviation of the centre's error, in sides of the crop, and of the size's logarithm.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import nn

from dicom_node.inference.bundles import BUILT_IN, load_bundle
from dicom_node.inference.parts import build_parts
from pipelines.transforms.knee_search import Found, find_joints
from tests.benchmarks.knee_crops import asked_crops
from tests.benchmarks.knee_wrapping import (
    PIPELINE,
    Film,
    full_frame,
    joint_in_film,
    with_bright_bone,
    without_spacing,
)

WAYS: Final = {"spacing stated": full_frame, "no spacing": without_spacing}


def errors(frame: Found, other: Found, side: float) -> tuple[float, float, float]:
    """Row and column, in sides of the crop, and logarithm of the size: `frame` against `other`."""
    return (
        (frame.row - other.row) / side,
        (frame.column - other.column) / side,
        float(np.log(frame.size / other.size)),
    )


def main() -> int:
    knees = with_bright_bone(asked_crops(__doc__))
    finder = build_parts(load_bundle(BUILT_IN / PIPELINE), torch.device("cpu")).network
    finder = finder.get_submodule("finder")
    row, column, side = joint_in_film(knees.images.shape[1])
    crop = Found(row, column, side, 1.0)
    print("| film | against | knees | not found | row | column | log of the size |")
    print("|---|---|---|---|---|---|---|")
    for name, make in WAYS.items():
        rows: dict[str, list[tuple[float, float, float]]] = {"the crop": [], "the joint in it": []}
        missed = 0
        for number, pixels in enumerate(knees.images):
            found = _in_film(make(knees, number), finder)
            alone = find_joints(pixels.astype(np.float32) / 255, finder)
            if found is None or not alone:
                missed += 1
                continue
            rows["the crop"].append(errors(found, crop, side))
            rows["the joint in it"].append(errors(found, _within(alone[0], crop, pixels), side))
        for against, values in rows.items():
            each = np.array(values)
            cells = " | ".join(
                f"{mean:+.3f} ± {spread:.3f}"
                for mean, spread in zip(each.mean(0), each.std(0), strict=True)
            )
            print(f"| {name} | {against} | {len(each)} | {missed} | {cells} |", flush=True)
    return 0


def _in_film(film: Film, finder: nn.Module) -> Found | None:
    spacing = film.attributes.get("PixelSpacing")
    stated = spacing[0] if isinstance(spacing, list) else None
    found = find_joints(film.pixels.astype(np.float32) / 4095, finder, spacing=stated)
    return found[0] if found else None


def _within(alone: Found, crop: Found, pixels: np.ndarray) -> Found:  # type: ignore[type-arg]
    """Where in the film the frame lies that was found in the crop alone."""
    scale = crop.size / pixels.shape[0]
    return Found(
        crop.row - crop.size / 2 + alone.row * scale,
        crop.column - crop.size / 2 + alone.column * scale,
        alone.size * scale,
        alone.score,
    )


if __name__ == "__main__":
    raise SystemExit(main())
