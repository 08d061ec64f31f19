"""Training and evaluation on a site's own labelled CT (`anatomy.load_folder`), by one command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from safetensors.torch import load_file

from dicom_node.errors import DataFolderError
from dicom_node.training.contract import ALL_ROWS, Evaluation, Trained, Training
from pipelines.lumbar_bmd_ct.anatomy import Anatomy, load_folder, phantom_anatomies
from pipelines.lumbar_bmd_ct.bmd_training import build_bank, narrow_phantoms, train_bmd
from pipelines.lumbar_bmd_ct.bundle import load_bundle, save_weights
from pipelines.lumbar_bmd_ct.evaluate import evaluate_volume, summarise
from pipelines.lumbar_bmd_ct.locator_training import train_locator

_SHOWN = {
    "location": ("level_right", "dice_mean", "dice_min", "centre_error_mm_mean"),
    "vertebra": ("n", "pearson_r", "bias", "rmse"),
    "patient": ("n", "pearson_r", "bias", "rmse"),
}


def site_evaluator(asked: Evaluation) -> dict[str, Any]:
    """Measure levels and bodies against the masks, and BMD where `bmd.csv` gives it.

    There are no splits: every labelled CT of the folder is evaluated.

    Raises:
        DataFolderError: The folder holds no labelled CT.
    """
    anatomies = _labelled(asked.data)
    bundle = load_bundle(asked.bundle.weights)
    output = asked.output or Path()
    rows = []
    for number, anatomy in enumerate(anatomies, start=1):
        rows.append(evaluate_volume(bundle, anatomy, (4.5,)))
        asked.progress(number / len(anatomies), f"{number} of {len(anatomies)} CT")
    if asked.output is not None:
        asked.output.mkdir(parents=True, exist_ok=True)
    found = summarise(rows, output if asked.output is not None else None)
    table = [[f"{len(rows)} CT", "value"]]
    for part, names in _SHOWN.items():
        table += [[f"{part} {k}", f"{found[part][k]:.4g}"] for k in names if part in found]
    charts = [] if asked.output is None else sorted(f.name for f in output.glob("bmd_*.png"))
    return {
        "n": len(rows),
        "split": ALL_ROWS,
        **found,
        "volumes": rows,
        "table": table,
        "charts": charts,
    }


class SiteTrainer:
    """Trains the locator, then the CNN; a resumed run does not repeat what is finished."""

    def __call__(self, asked: Training) -> Trained:
        """Train both and write `weights.safetensors`.

        Raises:
            DataFolderError: The folder holds no labelled CT.
        """
        real = _labelled(asked.data)
        asked.watch.note(f"{len(real)} labelled CT")
        parser = ConfigParser(dict(asked.settings))
        torch.manual_seed(int(asked.settings["seed"]))
        network = parser.get_parsed_content("network_def")
        done = asked.output / "locator.safetensors"
        if asked.resume and done.is_file():
            network.locator.load_state_dict(
                {k: v.float() if v.is_floating_point() else v for k, v in load_file(done).items()}
            )
        else:
            self._locator(asked, network.locator, real)
            save_weights(network.locator, done)
        asked.watch.step(0.5, 0.0)
        how = asked.settings["bmd"]
        seeds = range(how["first_seed"], how["first_seed"] + how["phantoms"])
        train_bmd(
            network.bmd,
            build_bank([*real, *narrow_phantoms(seeds)]),
            how["steps"],
            asked.seconds or how["seconds"],
            asked.settings["seed"],
            how["real_share"],
            how["batch"],
            asked.watch.note,
        )
        asked.watch.step(1.0, 0.0)
        weights = asked.output / "weights.safetensors"
        save_weights(network, weights)
        return Trained(weights, on_every_row=True)

    def _locator(self, asked: Training, locator: Any, real: list[Anatomy]) -> None:
        how = asked.settings["locator"]
        seeds = range(how["first_seed"], how["first_seed"] + how["phantoms"])
        # without S1 a volume cannot teach where to count from
        whole = [a for a in real if (a.labels == 1).any()]
        train_locator(
            locator,
            [*whole, *phantom_anatomies(seeds)],
            how["steps"],
            asked.seconds or how["seconds"],
            asked.settings["seed"],
            how["real_share"],
            how["batch"],
            asked.watch.note,
        )


def _labelled(folder: Path) -> list[Anatomy]:
    if not folder.is_dir():
        raise DataFolderError(str(folder), "there is no such folder", "correct --data")
    try:
        return load_folder(folder)
    except FileNotFoundError:
        raise DataFolderError(
            str(folder),
            "it holds no labelled CT: ct.nii.gz with segmentation.nii.gz and "
            "vertebral_bodies.nii.gz, or *_ct.nii.gz with *seg-vert* and *seg-subreg* masks",
            "lay the volumes and masks there (docs/README.md of the pipeline)",
        ) from None
