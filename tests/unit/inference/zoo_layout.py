"""The Model Zoo's layout and configuration style, with all that MONAI's own runner uses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

LOAD = {"_target_": "LoadImaged", "keys": "image"}
CHANNEL_FIRST = {"_target_": "EnsureChannelFirstd", "keys": "image"}
RUNNER: dict[str, Any] = {
    "imports": ["$import glob", "$import os", "$import a_package_that_is_not_there"],
    "bundle_root": ".",
    "output_dir": "$@bundle_root + '/eval'",
    "dataset_dir": "/workspace/data",
    "datalist": "$list(sorted(glob.glob(@dataset_dir + '/*.nii.gz')))",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "network": "$@network_def.to(@device)",
    "dataset": {
        "_target_": "Dataset",
        "data": "$[{'image': i} for i in @datalist]",
        "transform": "@preprocessing",
    },
    "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
    "handlers": [
        {
            "_target_": "CheckpointLoader",
            "load_path": "$@bundle_root + '/models/model.pt'",
            "load_dict": {"model": "@network"},
        },
        {"_target_": "StatsHandler", "output_transform": "$lambda x: None"},
    ],
    "evaluator": {
        "_target_": "SupervisedEvaluator",
        "device": "@device",
        "val_data_loader": "@dataloader",
        "network": "@network",
        "inferer": "@inferer",
        "postprocessing": "@postprocessing",
        "val_handlers": "@handlers",
        "amp": True,
    },
    "run": ["$@evaluator.run()"],
}


def compose(*transforms: Mapping[str, Any]) -> dict[str, Any]:
    return {"_target_": "Compose", "transforms": list(transforms)}


def write(
    folder: Path,
    name: str,
    metadata: Mapping[str, Any],
    inference: Mapping[str, Any],
    weights: Mapping[str, Tensor] | None,
) -> Path:
    bundle = folder / name
    for part in ("configs", "models", "docs"):
        (bundle / part).mkdir(parents=True)
    whole = {"version": "0.3.1", "monai_version": "1.4.0", "authors": "MONAI team", **metadata}
    (bundle / "configs" / "metadata.json").write_text(json.dumps(whole, indent=4))
    config = json.dumps({**RUNNER, **inference}, indent=4)
    (bundle / "configs" / "inference.json").write_text(config)
    (bundle / "docs" / "README.md").write_text(f"# {name}\n")
    (bundle / "LICENSE").write_text("Apache License 2.0\n")
    if weights is not None:
        torch.save(dict(weights), bundle / "models" / "model.pt")
    return bundle


def format_of(image: Mapping[str, Any], pred: Mapping[str, Any]) -> dict[str, Any]:
    return {"network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}}}


def filled_in(bundle: Path) -> None:
    """Fill in a proposed dicom.yaml as a person would: codes of the site's own."""
    file = bundle / "configs" / "dicom.yaml"
    text = file.read_text(encoding="utf-8")
    lines = []
    for number, line in enumerate(text.splitlines()):
        key, _, value = line.partition(": ")
        if "FILL IN" in value and not line.startswith("#"):
            filled = {"value": f"code-{number}", "scheme": "99SITE", "manufacturer": "Our hospital"}
            value = filled.get(key.strip(" -"), value.strip("'").replace("FILL IN: ", ""))
            value = value.replace("FILL IN", "thing")
            line = f"{key}: {value}"
        lines.append(line)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def disc(size: int, lower: bool, column: float = 0.5) -> Tensor:
    """A grey image with a bright disc in one half, [size, size] in 0..1."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    row = (0.75 if lower else 0.25) * size
    inside = (rows - row) ** 2 + (columns - column * size) ** 2 < (size / 8) ** 2
    return 0.2 + 0.7 * inside.float()


def fitted(network: nn.Module) -> Mapping[str, Tensor]:
    """Fit the classifier to discs at several places, always from the same start."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for module in network.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        places = [0.3, 0.4, 0.5, 0.6, 0.7]
        images = torch.stack([disc(32, lower, at) for lower in (False, True) for at in places])
        images = (images - images.min()) / (images.max() - images.min())
        given = images[:, None].repeat(1, 3, 1, 1)
        wanted = torch.tensor([0] * len(places) + [1] * len(places))
        optimiser = torch.optim.Adam(network.parameters(), 1e-2)
        for _ in range(40):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(given), wanted).backward()
            optimiser.step()
    return {key: value.detach() for key, value in network.state_dict().items()}
