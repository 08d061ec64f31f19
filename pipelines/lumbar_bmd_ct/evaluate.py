"""Evaluate weights: python -m pipelines.lumbar_bmd_ct.evaluate --weights FILE --output DIR.

Writes `evaluation.json` and `bmd_vertebra.png`, `bmd_patient.png` (scatter, Bland-Altman, ROC).
`--patients` phantoms that were never trained on give BMD figures through the whole pipeline;
`--data` gives levels, body Dice and HU against the masks of labelled CT, and BMD where the
folder has `bmd.csv`; vertebrae of labelled CT are also simulated at drawn BMD.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from pipelines.lumbar_bmd_ct import figures
from pipelines.lumbar_bmd_ct.anatomy import Anatomy, body_names, load_folder
from pipelines.lumbar_bmd_ct.bmd_training import BMD_RANGE, build_bank, simulate
from pipelines.lumbar_bmd_ct.bundle import Bundle, load_bundle, run
from pipelines.phantoms.lumbar import lumbar_ct

THRESHOLD = 80.0


def held_out_patient(seed: int) -> tuple[Anatomy, float]:
    """A phantom with drawn habitus, slice thickness, noise, kernel and BMD."""
    rng = np.random.default_rng(30_000 + seed)
    spacing = (1.6, 1.6, float(rng.choice([2.0, 3.0, 5.0])))
    bmd = float(np.clip(rng.normal(105, 38), 30, 220))
    phantom = lumbar_ct(
        seed,
        bmd_mg_cm3=bmd,
        spacing=spacing,
        size=240,
        slices=int(312 / spacing[2]),
        bottom_mm=float(rng.uniform(-75, -50)),
        noise_hu=float(rng.uniform(6, 22)),
        kernel_mm=float(rng.uniform(0.3, 1.0)),
    )
    anatomy = Anatomy(
        f"phantom-{seed}",
        phantom.volume.astype(np.float32),
        spacing,
        phantom.truth.labels,
        False,
        dict(phantom.truth.bmd),
    )
    return anatomy, bmd


def evaluate_volume(
    bundle: Bundle, anatomy: Anatomy, erosions: tuple[float, ...]
) -> dict[str, Any]:
    """One volume: what was found at each level beside the masks and the true BMD."""
    began = time.monotonic()
    levels, refused = run(bundle, anatomy.hu, anatomy.affine)
    row: dict[str, Any] = {
        "name": anatomy.name,
        "seconds": round(time.monotonic() - began, 2),
        "refused": [r.text for r in refused],
        "levels": {},
    }
    names = body_names(anatomy)
    for level, data in levels.items():
        found: dict[str, Any] = {}
        row["levels"][level] = found
        if "rejection" in data:
            found["rejected"] = data["rejection"].text
            continue
        found.update({k: float(data[k]) for k in ("bmd", "bmd_sd", "hu", "hu_bmd", "roi_ml")})
        found["true_bmd"] = anatomy.bmd.get(level)
        if level not in names:
            continue
        mask = anatomy.labels == names[level]
        body = np.zeros_like(mask)
        offset, part = data["target"].extras["offset"], data["target"].extras["body"]
        body[tuple(slice(o, o + n) for o, n in zip(offset, part.shape, strict=True))] = part
        found["dice"] = float(2 * (mask & body).sum() / max(1, mask.sum() + body.sum()))
        apart = np.subtract(ndimage.center_of_mass(mask), ndimage.center_of_mass(body))
        found["centre_error_mm"] = float(np.linalg.norm(apart * anatomy.spacing))
        depth = ndimage.distance_transform_edt(mask, anatomy.spacing)
        for erosion in erosions:
            if (depth > erosion).any():
                found[f"mask_hu_eroded_{erosion:g}_mm"] = float(anatomy.hu[depth > erosion].mean())
    return row


def simulated_vertebrae(bundle: Bundle, anatomies: list[Anatomy], draws: int) -> dict[str, Any]:
    """The CNN on the real images of `anatomies` with drawn BMD, one number a vertebra and draw."""
    rng = torch.Generator().manual_seed(7)
    true, found, sds = [], [], []
    for anatomy in anatomies:
        for level, label in body_names(anatomy).items():
            if level == "S1":
                continue
            only = np.where(anatomy.labels == label, label, 0).astype(np.uint8)
            if only[:, :, (0, -1)].any():  # cut by the volume's edge
                continue
            bank = build_bank([Anatomy(anatomy.name, anatomy.hu, anatomy.spacing, only, True, {})])
            images = torch.arange(len(bank.hu))
            for _ in range(draws):
                low, high = BMD_RANGE
                bmd = low + (high - low) * float(torch.rand(1, generator=rng))
                hu = simulate(bank, images, torch.full((len(images),), bmd), rng)
                with torch.inference_mode():
                    out = bundle.network(hu)
                true.append(bmd)
                found.append(float(out[:, 0].mean()))
                sds.append(float((torch.exp(out[:, 1]).mean() + out[:, 0].var()) ** 0.5))
    t, f = np.array(true), np.array(found)
    return {
        "agreement": figures.agreement(t, f, np.array(sds)),
        "roc": figures.roc(t, f, THRESHOLD),
    }


def summarise(rows: list[dict[str, Any]], output: Path | None) -> dict[str, Any]:
    """Vertebra and patient figures over all volumes with a true BMD; charts into `output`."""
    pairs, patients, linear = [], [], []
    for row in rows:
        good = [v for v in row["levels"].values() if v.get("true_bmd") is not None]
        pairs += [(v["true_bmd"], v["bmd"], v["bmd_sd"]) for v in good]
        linear += [(v["true_bmd"], v["hu_bmd"]) for v in good]
        if len(good) >= 2:
            patients.append(
                (np.mean([v["true_bmd"] for v in good]), np.mean([v["bmd"] for v in good]))
            )
    result: dict[str, Any] = {}
    if len(pairs) > 3:
        true, found, sd = np.array(pairs).T
        result["vertebra"] = figures.agreement(true, found, sd)
        result["vertebra_linear_hu"] = figures.agreement(*np.array(linear).T)
        if output is not None:
            figures.draw(true, found, THRESHOLD, "mg/cm³", output / "bmd_vertebra.png")
    if len(patients) > 3:
        true, found = np.array(patients).T
        result["patient"] = figures.agreement(true, found)
        result["patient_osteoporosis"] = figures.roc(true, found, THRESHOLD)
        if output is not None:
            figures.draw(true, found, THRESHOLD, "mg/cm³", output / "bmd_patient.png")
    located = [v for row in rows for v in row["levels"].values() if "dice" in v]
    if located:
        dice = np.array([v["dice"] for v in located])
        errors = np.array([v["centre_error_mm"] for v in located])
        result["location"] = {
            "volumes": len(rows),
            "refused": sum(bool(r["refused"]) for r in rows),
            "levels": len(located),
            "level_right": float((errors < 10).mean()),
            "dice_mean": float(dice.mean()),
            "dice_min": float(dice.min()),
            "centre_error_mm_mean": float(errors.mean()),
            "centre_error_mm_max": float(errors.max()),
        }
    result["seconds_mean"] = float(np.mean([r["seconds"] for r in rows])) if rows else None
    return result


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--patients", type=int, default=40, help="simulated patients (default 40)")
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=60, help="drawn BMDs per real vertebra")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    bundle = load_bundle(options.weights)
    report: dict[str, Any] = {"labelled_ct": {}}
    for folder in options.data:
        for anatomy in load_folder(folder):
            report["labelled_ct"][anatomy.name] = {
                "volume": evaluate_volume(bundle, anatomy, (3.0, 4.5, 6.0)),
                "simulated_bmd": simulated_vertebrae(bundle, [anatomy], options.draws),
            }
    rows = []
    for seed in range(options.first_seed, options.first_seed + options.patients):
        anatomy, _ = held_out_patient(seed)
        rows.append(evaluate_volume(bundle, anatomy, (4.5,)))
        print(f"{anatomy.name}: {rows[-1]['seconds']} s {rows[-1]['refused']}", flush=True)
    report["simulated_patients"] = summarise(rows, options.output)
    report["volumes"] = rows
    file = options.output / "evaluation.json"
    file.write_text(json.dumps(report, indent=1), encoding="utf-8")
    print(json.dumps({k: v for k, v in report.items() if k != "volumes"}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
