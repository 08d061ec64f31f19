"""A paper's comparison: python -m pipelines.osteoporosis.compare PIPELINE --data DIR --out DIR

Every network of the bundle's `configs/compare.yaml` is cross-validated on the same grouped folds;
then the shortcut controls. Prints the table; writes `comparison.json` and each fold's logits, so
that a run which was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from dicom_node.inference.bundles import BUILT_IN, load_bundle
from dicom_node.inference.parts import build_untrained
from dicom_node.training.entries import settings_of
from pipelines.osteoporosis.controls import controls
from pipelines.osteoporosis.crossval import cross_validated
from pipelines.osteoporosis.data import Joints, load_joints, read_joints, save_joints, with_finder
from pipelines.osteoporosis.figures import figures_of, matched_auc
from pipelines.transforms.calibration import softmax


def main(arguments: list[str] | None = None) -> int:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("pipeline")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="folder with NETWORK.safetensors: features")
    shipped = load_bundle(BUILT_IN / "knee_kl_ensemble").weights
    parser.add_argument("--finder", type=Path, default=shipped, help="weights with a joint finder")
    parser.add_argument("--only", action="append", default=[], help="name of a row of the table")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    bundle = load_bundle(BUILT_IN / options.pipeline)
    options.out.mkdir(parents=True, exist_ok=True)
    joints = _joints(options, bundle.name)
    text = (bundle.folder / "configs" / "compare.yaml").read_text(encoding="utf-8")
    config: Mapping[str, Any] = yaml.safe_load(text)
    settings = settings_of(bundle, options.set, None)
    found: dict[str, Any] = {}
    for row in config["rows"]:
        if options.only and row["name"] not in options.only:
            continue
        own = {**settings, **row.get("settings", {})}
        own |= {"network": row["network"], "tuned": row["tuned"]}
        own["start"] = str(_start(options.start, row["network"]))
        folder = options.out / row["name"].replace(" ", "_")
        print(row["name"], flush=True)
        logits = cross_validated(joints, int(config["classes"]), own, folder, _said)
        probabilities = softmax(logits)
        figures = figures_of(probabilities, joints.two, joints.three, joints.groups)
        figures["auc_same_height"] = matched_auc(
            1 - probabilities[:, 0], joints.two == 1, joints.shapes[:, 0].clip(1).astype(float)
        )
        found[row["name"]] = {**figures, "paper": row["paper"]}
    told = {"networks": found, "controls": controls(joints, settings["folds"], settings["seed"])}
    (options.out / "comparison.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    print("\n".join(table_lines(told)))
    return 0


def table_lines(told: Mapping[str, Any]) -> list[str]:
    """Return the figures as Markdown; "same height": AUC over pairs of equally high images."""
    lines = [
        "| network | AUC | 95 % | same height | accuracy | sensitivity | specificity "
        "| three classes | paper |",
        f"|{'---|' * 9}",
    ]
    for name, row in told["networks"].items():
        low, high = row["auc_95"]
        three = row.get("three_classes")
        of_three = f"{three['accuracy']:.3f} of {three['n']}" if three else ""
        keys = ("auc_same_height", "accuracy", "sensitivity", "specificity")
        numbers = ["" if row[key] is None else f"{row[key]:.3f}" for key in keys]
        cells = [f"{row['auc']:.3f}", f"{low:.3f} to {high:.3f}", *numbers]
        lines.append(f"| {' | '.join([name, *cells, of_three, str(row['paper'])])} |")
    lines += ["", "| control: what is looked at | AUC | 95 % |", "|---|---|---|"]
    for name, row in told["controls"].items():
        low, high = row["auc_95"]
        lines.append(f"| {name} | {row['auc']:.3f} | {low:.3f} to {high:.3f} |")
    return lines


def _joints(options: argparse.Namespace, name: str) -> Joints:
    """Read the joints, or take them from the last run: finding them takes minutes."""
    file = options.out / "joints.npz"
    if file.is_file():
        return load_joints(file)
    bundle = load_bundle(BUILT_IN / name)
    parts = with_finder(build_untrained(bundle, torch.device("cpu")), options.finder)
    joints = read_joints(options.data, name, parts, note=_said)
    save_joints(joints, file)
    return joints


def _start(folder: Path | None, network: str) -> Path | str:
    file = folder / f"{network}.safetensors" if folder else None
    return file if file is not None and file.is_file() else ""


def _said(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
