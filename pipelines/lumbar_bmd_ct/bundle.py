"""The bundle outside the node: load it and run it on one volume, as the engine does."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from safetensors.torch import load_file, save_file
from torch import nn

from dicom_node.model.targets import Rejection, Target
from dicom_node.training.whole import whole

HERE: Final = Path(__file__).parent


@dataclass
class Bundle:
    """The parts of `configs/inference.yaml`, with the weights loaded."""

    network: nn.Module
    locator: Any
    preprocessing: Any
    gate: Any
    postprocessing: Any


def load_bundle(weights: Path, config: Path = HERE / "configs" / "inference.yaml") -> Bundle:
    """Read the configuration and the weights (safetensors).

    Raises:
        RuntimeError: The weights do not fit the network.
    """
    parser = ConfigParser()
    parser.read_config(config)
    steps = parser["preprocessing"]["transforms"]
    parser["preprocessing"]["transforms"] = [
        s for s in steps if not s["_target_"].startswith("LoadImage")
    ]
    network = parser.get_parsed_content("network_def")
    state = {k: v.float() if v.is_floating_point() else v for k, v in load_file(weights).items()}
    network.load_state_dict(state)
    network.eval()
    return Bundle(
        network,
        *(
            parser.get_parsed_content(key)
            for key in ("locator", "preprocessing", "gate", "postprocessing")
        ),
    )


@torch.inference_mode()
def run(
    bundle: Bundle,
    hu: npt.NDArray[np.floating],
    affine: npt.NDArray[np.floating],
    attributes: Mapping[str, Any] | None = None,
) -> tuple[dict[str, dict[Any, Any]], list[Rejection]]:
    """Evaluate one volume [H, W, D].

    Returns:
        By level: the data after postprocessing, or one with "rejection"; and the rejections of
        the whole volume.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(hu, np.float32))[None]
    image = MetaTensor(tensor, affine=torch.from_numpy(np.asarray(affine, np.float64)))
    levels: dict[str, dict[Any, Any]] = {}
    refused: list[Rejection] = []
    for found in bundle.locator(image, attributes or {}):
        if isinstance(found, Rejection):
            refused.append(found)
        elif found.rejection:
            levels[found.name] = {"target": found, "rejection": found.rejection}
        else:
            levels[found.name] = _evaluate(bundle, image, found, attributes or {})
    return levels, refused


def _evaluate(
    bundle: Bundle, image: MetaTensor, target: Target, attributes: Mapping[str, Any]
) -> dict[Any, Any]:
    data = bundle.preprocessing({"image": image, "target": target, "attributes": attributes})
    rejection = bundle.gate(data)
    if rejection:
        return {"target": target, "rejection": rejection}
    data["pred"] = bundle.network(data["image"])
    done: dict[Any, Any] = bundle.postprocessing(data)
    return done


def save_weights(network: nn.Module, file: Path) -> str:
    """Write the state as fp16 safetensors, whole or not at all; returns the file's SHA-256."""
    file.parent.mkdir(parents=True, exist_ok=True)
    state = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in network.state_dict().items()
    }
    with whole(file) as partial:
        save_file(state, partial)
    return hashlib.sha256(file.read_bytes()).hexdigest()
