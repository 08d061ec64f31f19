"""A bundle's parts, built by MONAI's ConfigParser, with its weights loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.inferers import SimpleInferer
from monai.transforms import Compose, LoadImage, LoadImaged
from safetensors.torch import load_file
from torch import nn

from dicom_node.errors import NodeError, PipelineError
from dicom_node.inference.bundles import Bundle
from dicom_node.model.targets import Rejection, Target

Locator = Callable[[MetaTensor, Mapping[str, Any]], Sequence[Target | Rejection]]
Gate = Callable[[Mapping[str, Any]], Rejection | None]
Transform = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What runs: the network on its device, and what stands before and behind it."""

    network: nn.Module
    preprocessing: Transform
    postprocessing: Transform
    inferer: Callable[..., Any]
    locator: Locator | None
    gate: Gate | None


def build_parts(bundle: Bundle, device: torch.device) -> Parts:
    """Instantiate a bundle's inference configuration and load its weights.

    Raises:
        PipelineError: The configuration or the weights do not make a network.
    """
    bundle.verify_weights()
    try:
        return _build(bundle, device)
    except NodeError:
        raise
    except Exception as error:
        raise PipelineError(
            f"pipeline {bundle.name}: {bundle.inference_config.name}",
            f"it cannot be built: {type(error).__name__}: {error}",
            "correct the bundle; `dicom-node pipelines check` tries it again",
        ) from error


def _build(bundle: Bundle, device: torch.device) -> Parts:
    parser = ConfigParser()
    parser.read_config(str(bundle.inference_config))
    parser["bundle_root"] = str(bundle.folder)
    parser["device"] = device
    parser.parse()

    def part(name: str) -> Any:
        return parser.get_parsed_content(name) if name in parser else None

    network = part("network_def")
    if not isinstance(network, nn.Module):
        raise PipelineError(
            f"pipeline {bundle.name}", "`network_def` is no network", "correct inference.yaml"
        )
    weights = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in load_file(bundle.weights).items()
    }
    missing, unexpected = network.load_state_dict(weights, strict=False)
    if missing or unexpected:
        raise PipelineError(
            f"pipeline {bundle.name}",
            f"{bundle.weights.name} lacks {len(missing)} tensors and has {len(unexpected)} others",
            "use weights that were trained for this network",
        )
    network.to(device).eval()
    for tensor in network.parameters():
        tensor.requires_grad_(False)
    return Parts(
        network=network,
        preprocessing=_without_loading(part("preprocessing")),
        postprocessing=part("postprocessing") or Compose([]),
        inferer=part("inferer") or SimpleInferer(),
        locator=part("locator"),
        gate=part("gate"),
    )


def _without_loading(transform: Compose | None) -> Compose:
    """Leave out the transforms that read files: the node's readers have done it."""
    kept = [
        item
        for item in (transform.transforms if transform is not None else ())
        if not isinstance(item, LoadImage | LoadImaged)
    ]
    return Compose(kept)
