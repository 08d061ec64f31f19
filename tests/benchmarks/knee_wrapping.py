"""Whether a knee gets the same KL grade however it arrives: as a crop, in a film, beside another.

    python -m tests.benchmarks.knee_wrapping --data DIR [--images 200]

DIR holds `labels.csv` and the joint crops. Each crop is graded by the network alone, as a file;
then it is made into DX images (12 bit) and goes through reader, joint finder and pipeline as in
the node: alone, with a dark surround, with a second crop, and in films. A film has twice as fine
pixels, which binned are the crop's; it continues the crop's shafts upwards and downwards and its
skin to the sides, and has a dark surround, a marker and noise: no film of this kind could be had,
so it is a composite. Crops that are negatives (the published ones have some) are inverted first: a
film has dark air. The first figure is the share of images with the same grade, the second that of
the same grade or, where the crop's two most probable grades are within a tenth of each other, the
second of them. What is not evaluated, as no joint is found or the gate refuses it, counts as
another grade.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter, zoom

from dicom_node.inference.bundles import BUILT_IN, load_bundle
from dicom_node.inference.jobs import JobInput
from dicom_node.inference.local import LocalExecutor
from dicom_node.inference.parts import build_parts
from dicom_node.model.findings import Classification, Side
from dicom_node.model.instances import facts_of
from pipelines.knee_kl_ensemble.data import Crops, Knees
from pipelines.knee_kl_ensemble.evaluate import predictions
from pipelines.phantoms.outlines import stamp
from pipelines.transforms.knee_search import CROP_MM
from tests.benchmarks.knee_crops import asked_crops
from tests.factories import radiograph

Array = npt.NDArray[np.float32]

PIPELINE: Final = "knee_kl_ensemble"
_MAGNIFIED: Final = 2
_ABOVE: Final = 0.6
_ASIDE: Final = 0.2
_FRAME: Final = 0.06
"""Of the crop's side: how far a film goes on above and beside it, and the dark frame around."""
_FULL: Final = 4095


@dataclass(frozen=True, slots=True)
class Film:
    """A stored image, and which knees (by number) it shows on its left and right half."""

    pixels: npt.NDArray[np.uint16]
    attributes: Mapping[str, object]
    knees: Mapping[Side, int]


def whole_crop(knees: Knees, number: int) -> Film:
    """The crop as it is, brighter is denser."""
    return Film(_stored(knees.images[number] / 255), {"ImageLaterality": "R"}, {Side.RIGHT: number})


def inverted_crop(knees: Knees, number: int) -> Film:
    """The crop as MONOCHROME1."""
    film = whole_crop(knees, number)
    attributes = {**film.attributes, "PhotometricInterpretation": "MONOCHROME1"}
    return Film((_FULL - film.pixels).astype(np.uint16), attributes, film.knees)


def unstated_left_knee(knees: Knees, number: int) -> Film:
    """The crop mirrored back to a left knee; no attribute tells its side."""
    return Film(_stored(knees.images[number][:, ::-1] / 255), {}, {Side.UNKNOWN: number})


def on_dark_surround(knees: Knees, number: int) -> Film:
    """The crop in the middle of a dark image, its spacing stated: collimated to the joint."""
    return _surrounded(knees.images[number].astype(np.float32) / 255, number)


def magnified_on_dark_surround(knees: Knees, number: int) -> Film:
    """The same at three times as many pixels a side, which show no more than the crop."""
    crop = knees.images[number].astype(np.float32) / 255
    return _surrounded(zoom(crop, 3, order=3, mode="nearest", grid_mode=True), number)


def side_by_side(knees: Knees, number: int) -> Film:
    """The crop, and beside it, without a gap, the next one mirrored, as the left knee."""
    other = (number + 1) % len(knees)
    pair = np.concatenate([knees.images[number], knees.images[other][:, ::-1]], axis=1)
    attributes = {"ImageLaterality": "B"}
    return Film(_stored(pair / 255), attributes, {Side.RIGHT: number, Side.LEFT: other})


def full_frame(knees: Knees, number: int) -> Film:
    """One leg on a film, its pixel spacing stated."""
    leg = _leg(knees.images[number], number)
    spacing = CROP_MM / (knees.images.shape[1] * _MAGNIFIED)
    stamp(leg, "R", spacing, left=True)
    return Film(
        _stored(leg),
        {"ImageLaterality": "R", "PixelSpacing": [spacing, spacing]},
        {Side.RIGHT: number},
    )


def without_spacing(knees: Knees, number: int) -> Film:
    """The same film; no attribute tells its scale."""
    film = full_frame(knees, number)
    return Film(film.pixels, {**film.attributes, "PixelSpacing": None}, film.knees)


def both_knees(knees: Knees, number: int) -> Film:
    """Two patients' knees as one film: the next crop, mirrored, is the left knee."""
    other = (number + 1) % len(knees)
    legs = [_leg(knees.images[n], n) for n in (number, other)]
    gap = np.zeros((legs[0].shape[0], legs[0].shape[1] // 12), np.float32)
    spacing = CROP_MM / (knees.images.shape[1] * _MAGNIFIED)
    pixels = np.concatenate([legs[0], gap, legs[1][:, ::-1]], axis=1)
    stamp(pixels, "R", spacing, left=True)
    return Film(
        _stored(pixels),
        {"ImageLaterality": "B", "PixelSpacing": [spacing, spacing]},
        {Side.RIGHT: number, Side.LEFT: other},
    )


def joint_in_film(crop_side: int) -> tuple[float, float, float]:
    """Row and column of the crop's centre in `full_frame`, and its side there, in pixels."""
    side = crop_side * _MAGNIFIED
    before_row, before_column = ((round(n * side) + round(_FRAME * side)) for n in (_ABOVE, _ASIDE))
    return before_row + side / 2, before_column + side / 2, float(side)


WAYS: Final[Mapping[str, Callable[[Knees, int], Film]]] = {
    "crop, MONOCHROME2": whole_crop,
    "crop, MONOCHROME1": inverted_crop,
    "crop of a left knee, side not stated": unstated_left_knee,
    "crop on a dark surround": on_dark_surround,
    "crop magnified, on a dark surround": magnified_on_dark_surround,
    "two crops side by side": side_by_side,
    "full-frame film": full_frame,
    "full-frame film, no spacing": without_spacing,
    "both knees in one film": both_knees,
}


def of_files(knees: Knees) -> npt.NDArray[np.float64]:
    """Probabilities [N, 5] of the crops as the network alone reads them."""
    network = build_parts(load_bundle(BUILT_IN / PIPELINE), torch.device("cpu")).network
    crops = Crops(torch.from_numpy(knees.images), knees.grades)
    return np.exp(predictions(network, crops))


def grades_of(executor: LocalExecutor, film: Film) -> dict[Side, int]:
    """Grade of each knee that the pipeline found in the film, and that its gate let through."""
    attributes = {key: value for key, value in film.attributes.items() if value is not None}
    image = radiograph(film.pixels, BitsStored=12, HighBit=11, **attributes)
    if "PixelSpacing" not in attributes:
        del image.PixelSpacing
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image.dcm"
        image.save_as(file, enforce_file_format=True)
        facts = facts_of(image, str(image.file_meta.TransferSyntaxUID))
        job = JobInput((file,), (facts,), None, datetime.now(UTC))
        found = executor.run(PIPELINE, job).findings
    return {
        item.subject.side: item.predicted
        for item in found.items
        if isinstance(item, Classification)
    }


def with_bright_bone(knees: Knees) -> Knees:
    """Invert the crops whose femur is darker than what lies beside the joint."""
    images = knees.images.copy()
    size = images.shape[1]
    up, middle, edge = size // 10, size // 2, size // 28
    femur = images[:, up : size // 3, size // 3 : 2 * size // 3].mean((1, 2))
    beside = images[:, middle - edge : middle + edge]
    skin = np.concatenate([beside[:, :, :edge], beside[:, :, -edge:]], axis=2).mean((1, 2))
    negative = femur < skin
    images[negative] = 255 - images[negative]
    return replace(knees, images=images)


def _surrounded(crop: Array, number: int) -> Film:
    size = len(crop)
    return Film(
        np.pad(_stored(crop), (size // 2, size // 3)),
        {"ImageLaterality": "R", "PixelSpacing": [CROP_MM / size] * 2},
        {Side.RIGHT: number},
    )


def _leg(crop: npt.NDArray[np.uint8], seed: int) -> Array:
    """Continue a crop [n, n] to a leg [4.5 n, 2.9 n], twice magnified, in 0..1."""
    rng = np.random.default_rng(seed)
    joint = _finer(crop.astype(np.float32) / 255)
    size = joint.shape[0]
    up, aside = round(_ABOVE * size), round(_ASIDE * size)
    leg = np.pad(joint, ((up, up), (aside, aside)), mode="edge")
    # what is continued has no more detail than a soft shadow
    soft = gaussian_filter(leg, (size / 40, size / 60))
    inside = np.zeros_like(leg)
    inside[up:-up, aside:-aside] = 1
    inside = gaussian_filter(inside, 2)
    inside[up:-up, aside:-aside] = 1
    leg = inside * leg + (1 - inside) * soft
    columns = np.abs(np.linspace(-1, 1, leg.shape[1]))
    fade = np.clip((1 - columns) / (1 - size / leg.shape[1]), 0, 1).astype(np.float32)
    noisy = leg * fade + rng.normal(0, 0.006, leg.shape).astype(np.float32)
    frame = round(_FRAME * size)
    return np.pad(np.clip(noisy, 0, 1), frame).astype(np.float32)


def _finer(crop: Array) -> Array:
    """The crop [n, n] as a detector of smaller pixels would show it: binned, they are the crop's.

    Interpolation alone would blur it, and no film shows less than what is cut out of it.
    """
    fine: Array = zoom(crop, _MAGNIFIED, order=3, mode="nearest", grid_mode=True)
    n, m = len(crop), _MAGNIFIED
    missing = crop - fine.reshape(n, m, n, m).mean((1, 3))
    return fine + np.kron(missing, np.ones((m, m), np.float32))


def _stored(image: npt.NDArray[np.floating]) -> npt.NDArray[np.uint16]:
    return np.clip(np.rint(image * _FULL), 0, _FULL).astype(np.uint16)


def main() -> int:
    asked = asked_crops(__doc__)
    torch.set_num_threads(1)
    knees = with_bright_bone(asked)
    probabilities = of_files(knees)
    order = np.argsort(-probabilities, axis=1)
    best = np.take_along_axis(probabilities, order[:, :2], 1)
    close = best[:, 0] - best[:, 1] < 0.1
    bundle = load_bundle(BUILT_IN / PIPELINE)
    executor = LocalExecutor({PIPELINE: bundle}, device="cpu", threads=1)
    print("| how it arrives | knees | same grade | or the second of two close | not evaluated |")
    print("|---|---|---|---|---|")
    for name, make in WAYS.items():
        same = near = missed = total = 0
        for number in range(len(knees)):
            film = make(knees, number)
            answers = grades_of(executor, film)
            for side, shown in film.knees.items():
                total += 1
                answer = answers.get(side)
                missed += answer is None
                same += answer == order[shown, 0]
                near += answer == order[shown, 0] or (close[shown] and answer == order[shown, 1])
        print(
            f"| {name} | {total} | {same / total:.3f} | {near / total:.3f} | {missed} |", flush=True
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
