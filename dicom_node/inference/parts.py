"""A bundle's parts, built by MONAI's ConfigParser, with its weights loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.inferers import SimpleInferer
from monai.transforms import Compose
from torch import nn

from dicom_node.errors import NodeError, PipelineError
from dicom_node.inference.bundle_config import check_trust, own_code, read_parser, require_trust
from dicom_node.inference.bundles import Bundle
from dicom_node.inference.calibration import calibration_of
from dicom_node.inference.detector import DetectorInferer
from dicom_node.inference.folding import fold_batch_norms
from dicom_node.inference.reduction import take_the_short_way
from dicom_node.inference.weights_file import (
    is_safetensors,
    is_torchscript,
    read_torchscript,
    read_weights,
)
from dicom_node.model.targets import Rejection, SeriesCandidate, SeriesChoice, Target

Locator = Callable[[MetaTensor, Mapping[str, Any]], Sequence[Target | Rejection]]
Gate = Callable[[Mapping[str, Any]], Rejection | None]
Chooser = Callable[[Sequence[SeriesCandidate]], SeriesChoice]
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
    chooser: Chooser | None = None


def build_parts(
    bundle: Bundle,
    device: torch.device,
    *,
    channels_last: bool = False,
    folded: bool = False,
    quick: bool = False,
) -> Parts:
    """Instantiate a bundle's inference configuration and load its weights.

    Args:
        channels_last: 2-D convolutions keep their weights as oneDNN and cuDNN want them.
        folded: Batch normalisation is folded into the convolutions.
        quick: MONAI's `Resized` smooths only where it keeps a pixel (`reduction`).

    Raises:
        PipelineError: The configuration or the weights do not make a network.
    """
    if bundle.unfilled:
        raise PipelineError(
            f"pipeline {bundle.name}",
            f"its dicom.yaml is not filled in: {', '.join(bundle.unfilled[:5])}",
            "replace every FILL IN of configs/dicom.yaml",
        )
    content = bundle.read_weights()
    name = f"pipeline {bundle.name}: {bundle.weights.name}"
    if is_torchscript(content):
        require_trust(bundle, f"{bundle.weights.name} is TorchScript, which is a program")
        if bundle.spec.saliency is not None:
            raise PipelineError(
                name,
                "Grad-CAM cannot look into TorchScript",
                "leave `saliency` out of dicom.yaml, or use the network's own class and weights",
            )
        script = read_torchscript(content, name)
        with _building(bundle):
            return _build(bundle, None, {}, device, script)
    weights = read_weights(content, name)
    calibration = calibration_of(content, bundle.name) if is_safetensors(content) else {}
    with _building(bundle):
        parts = _build(bundle, weights, calibration, device)
        if folded:
            layer = bundle.spec.saliency.layer if bundle.spec.saliency else ""
            fold_batch_norms(parts.network, keep=layer)
        if quick:
            take_the_short_way(parts.preprocessing)
        if channels_last:
            for tensor in parts.network.parameters():
                if tensor.ndim == 4:  # the format has no other rank
                    tensor.data = tensor.data.to(memory_format=torch.channels_last)
        return parts


def build_untrained(bundle: Bundle, device: torch.device) -> Parts:
    """Instantiate a bundle that has no weights yet, for what needs none of them.

    Raises:
        PipelineError: The configuration does not make a network.
    """
    with _building(bundle):
        return _build(bundle, None, {}, device)


def network_of(bundle: Bundle) -> nn.Module:
    """Instantiate a bundle's network, without its weights.

    Raises:
        PipelineError: The configuration does not make a network.
    """
    with _building(bundle):
        parser = read_parser(bundle, torch.device("cpu"))
        check_trust(bundle, parser)
        with own_code(bundle):
            return _network(bundle, parser)


@contextmanager
def _building(bundle: Bundle) -> Iterator[None]:
    try:
        yield
    except NodeError:
        raise
    except Exception as error:
        raise PipelineError(
            f"pipeline {bundle.name}: {bundle.inference_config.name}",
            f"it cannot be built: {type(error).__name__}: {error}",
            "correct the bundle; `dicom-node pipelines check` tries it again",
        ) from error


def _network(bundle: Bundle, parser: ConfigParser) -> nn.Module:
    network = parser.get_parsed_content("network_def") if "network_def" in parser else None
    if not isinstance(network, nn.Module):
        raise PipelineError(
            f"pipeline {bundle.name}", "`network_def` is no network", "correct inference.yaml"
        )
    return network


def _build(
    bundle: Bundle,
    weights: Mapping[str, torch.Tensor] | None,
    calibration: Mapping[str, float],
    device: torch.device,
    script: nn.Module | None = None,
) -> Parts:
    parser = read_parser(bundle, device)
    check_trust(bundle, parser)
    for place, number in calibration.items():
        if place not in parser:
            raise PipelineError(
                f"pipeline {bundle.name}",
                f"{bundle.weights.name} brings a number for {place}, which is not there",
                "use weights that were trained for this pipeline",
            )
        parser[place] = number
    parser.parse()
    with own_code(bundle):
        return _built(bundle, parser, weights, device, script)


def _load(bundle: Bundle, network: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    file, fix = bundle.weights.name, "use weights that were trained for this network"
    try:
        missing, unexpected = network.load_state_dict(weights, strict=False)
    except RuntimeError:
        odd = [
            f"{name} {tuple(weights[name].shape)} for {tuple(tensor.shape)}"
            for name, tensor in network.state_dict().items()
            if name in weights and weights[name].shape != tensor.shape
        ]
        if not odd:
            raise
        raise PipelineError(
            f"pipeline {bundle.name}",
            f"{file} has {len(odd)} tensors of another shape than the network's "
            f"({', '.join(odd[:3])})",
            fix,
        ) from None
    if missing or unexpected:
        raise PipelineError(
            f"pipeline {bundle.name}",
            f"{file} lacks {len(missing)} tensors of the network "
            f"({', '.join(missing[:3])}) and has {len(unexpected)} others",
            fix,
        )


def _built(
    bundle: Bundle,
    parser: ConfigParser,
    weights: Mapping[str, torch.Tensor] | None,
    device: torch.device,
    script: nn.Module | None,
) -> Parts:
    def part(name: str) -> Any:
        found = parser.get_parsed_content(name) if name in parser else None
        if found is not None and not callable(found):
            raise PipelineError(
                f"pipeline {bundle.name}", f"`{name}` cannot be called", "correct inference.yaml"
            )
        return found

    network = script or _network(bundle, parser)
    if weights is not None:
        _load(bundle, network, weights)
    network.to(device).eval()
    for tensor in network.parameters():
        tensor.requires_grad_(False)
    return Parts(
        network=network,
        preprocessing=part("preprocessing") or Compose([]),
        postprocessing=part("postprocessing") or Compose([]),
        inferer=_detector(parser) or part("inferer") or SimpleInferer(),
        locator=part("locator"),
        gate=part("gate"),
        chooser=part("chooser"),
    )


def _detector(parser: ConfigParser) -> DetectorInferer | None:
    """Return what runs a detection bundle's detector; None: it has none."""
    if "detector" not in parser:
        return None
    detector = parser.get_parsed_content("detector")
    if "detector_ops" in parser:
        parser.get_parsed_content("detector_ops")
    return DetectorInferer(detector)
