"""Simulated and real hips in one MONAI data set, so that training mixes them."""

from __future__ import annotations

import csv
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import Dataset
from monai.transforms import Compose, MapTransform
from torch import Tensor

from pipelines.hip_fixation_device.data import Labels, read_image, to_input
from pipelines.phantoms.hip import hip_radiograph
from pipelines.phantoms.hip_backgrounds import Background, film, hip_on

_SPACING = 1.0


class SimulateHipd(MapTransform):  # type: ignore[misc]
    """Draw a hip where an item says so: {"simulate": device, "seed": n} sets the image.

    An item may say `background`: an index of `backgrounds`; without it all is simulated. An item
    that has its image is left as it is.

    Args:
        backgrounds: Real hips without metal (`read_backgrounds`).
    """

    def __init__(self, keys: Hashable = "image", backgrounds: Sequence[Background] = ()) -> None:
        super().__init__(keys)
        self.backgrounds = tuple(backgrounds)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        if "simulate" not in out:
            return out
        device, seed = str(out["simulate"]), int(out["seed"])
        if "background" in out:
            made = hip_on(self.backgrounds[int(out["background"])], seed, device)
        else:
            made = hip_radiograph(seed, device, "RL"[seed % 2], spacing_mm=_SPACING)
        out[self.keys[0]] = made.image.astype(np.float32) / 4095
        return out


class ReadHipd(MapTransform):  # type: ignore[misc]
    """Read a real radiograph where an item names a file: {"image": Path} (DICOM or a picture)."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            if isinstance(out[key], str | Path):
                out[key] = read_image(Path(out[key]))
        return out


class HipInputd(MapTransform):  # type: ignore[misc]
    """Scale images [H, W] in 0..1 to the network's [1, 256, 256]."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = to_input(out[key])
        return out


def hip_dataset(
    items: Sequence[Mapping[str, Any]], backgrounds: Sequence[Background] = ()
) -> Dataset:
    """Make a data set of real items {"image": file, "label"} and `simulated_items`.

    Each of its items has "image", [1, 256, 256] in 0..1, and "label".
    """
    steps = [
        SimulateHipd("image", backgrounds),
        ReadHipd("image", allow_missing_keys=True),
        HipInputd("image"),
    ]
    return Dataset([dict(item) for item in items], Compose(steps))


def simulated_items(
    labels: Sequence[str], each: int, seed: int, backgrounds: int = 0
) -> list[dict[str, Any]]:
    """List `each` simulated hips of every label, on each of so many backgrounds, if there are any.

    Args:
        labels: Keys of the catalogue that the simulator knows, "none" and "other".
    """
    places: list[dict[str, Any]] = [{"background": n} for n in range(backgrounds)] or [{}]
    return [
        {"simulate": label, "label": label, "seed": seed * 1_000_003 + n, **place}
        for n in range(each)
        for place in places
        for label in labels
    ]


def as_tensors(dataset: Dataset, labels: Sequence[str]) -> tuple[Tensor, Labels]:
    """Return a data set's images [N, 1, 256, 256] and their labels' indices."""
    found = [dataset[n] for n in range(len(dataset))]
    truth = np.array([labels.index(item["label"]) for item in found])
    return torch.stack([torch.as_tensor(item["image"]) for item in found]), truth


def read_backgrounds(table: Path) -> list[Background]:
    """Read the hips that a table marks (`pipelines.phantoms.hip_backgrounds`); files lie beside it.

    Raises:
        ValueError: A side is not R or L, or a number is missing.
    """
    found = []
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["side"] not in ("R", "L"):
                raise ValueError(f"{table}: a side is R or L")
            at = {key: float(value) for key, value in row.items() if key not in ("file", "side")}
            whole = Background(
                read_image(table.parent / row["file"]),
                at["mm_per_pixel"],
                (at["head_row"], at["head_column"]),
                (at["shaft_row"], at["shaft_column"]),
                row["side"],
            )
            found.append(film(whole))
    return found
