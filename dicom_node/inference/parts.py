"""A bundle's parts, built by MONAI's ConfigParser, with its weights loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.inferers import SimpleInferer
from monai.transforms import Compose
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from dicom_node.errors import NodeError, PipelineError
from dicom_node.inference.bundles import Bundle
from dicom_node.inference.calibration import calibration_of
from dicom_node.model.targets import Rejection, SeriesCandidate, SeriesChoice, Target

Locator = Callable[[MetaTensor, Mapping[str, Any]], Sequence[Target | Rejection]]
Gate = Callable[[Mapping[str, Any]], Rejection | None]
Chooser = Callable[[Sequence[SeriesCandidate]], SeriesChoice]
Transform = Callable[[dict[str, Any]], dict[str, Any]]

_LOADERS: Final = frozenset({"LoadImage", "LoadImaged", "LoadImageD", "LoadImageDict"})


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


def build_parts(bundle: Bundle, device: torch.device) -> Parts:
    """Instantiate a bundle's inference configuration and load its weights.

    Raises:
        PipelineError: The configuration or the weights do not make a network.
    """
    content = bundle.read_weights()
    weights = _weights(bundle, content)
    calibration = calibration_of(content, bundle.name)
    with _building(bundle):
        return _build(bundle, weights, calibration, device)


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
        return _network(bundle, _parser(bundle, torch.device("cpu")))


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


def _weights(bundle: Bundle, content: bytes) -> dict[str, torch.Tensor]:
    """Load the weights from the very bytes whose hash was checked, to float32."""
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise PipelineError(
            f"pipeline {bundle.name}",
            f"{bundle.weights.name} is no safetensors file: {error}",
            "convert the weights with safetensors.torch.save_file",
        ) from None
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }


def _parser(bundle: Bundle, device: torch.device) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(bundle.inference_config))
    parser.set(_without_loading(parser.get()))
    parser.read_meta(str(bundle.folder / "configs" / "metadata.json"))
    parser["bundle_root"] = str(bundle.folder)
    parser["device"] = device
    return parser


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
) -> Parts:
    parser = _parser(bundle, device)
    for place, number in calibration.items():
        if place not in parser:
            raise PipelineError(
                f"pipeline {bundle.name}",
                f"{bundle.weights.name} brings a number for {place}, which is not there",
                "use weights that were trained for this pipeline",
            )
        parser[place] = number
    parser.parse()

    def part(name: str) -> Any:
        found = parser.get_parsed_content(name) if name in parser else None
        if found is not None and not callable(found):
            raise PipelineError(
                f"pipeline {bundle.name}", f"`{name}` cannot be called", "correct inference.yaml"
            )
        return found

    network = _network(bundle, parser)
    missing, unexpected = (
        network.load_state_dict(weights, strict=False) if weights is not None else ([], [])
    )
    if missing or unexpected:
        raise PipelineError(
            f"pipeline {bundle.name}",
            f"{bundle.weights.name} lacks {len(missing)} tensors of the network "
            f"({', '.join(missing[:3])}) and has {len(unexpected)} others",
            "use weights that were trained for this network",
        )
    network.to(device).eval()
    for tensor in network.parameters():
        tensor.requires_grad_(False)
    return Parts(
        network=network,
        preprocessing=part("preprocessing") or Compose([]),
        postprocessing=part("postprocessing") or Compose([]),
        inferer=part("inferer") or SimpleInferer(),
        locator=part("locator"),
        gate=part("gate"),
        chooser=part("chooser"),
    )


def _without_loading(config: Any) -> Any:
    """Leave out the transforms that read files: the node's readers have done it.

    Before anything is built, because a file reader may need a package that only training has.
    """
    if isinstance(config, Mapping):
        return {key: _without_loading(value) for key, value in config.items()}
    if isinstance(config, list):
        return [_without_loading(item) for item in config if not _loads(item)]
    return config


def _loads(item: Any) -> bool:
    target = item.get("_target_") if isinstance(item, Mapping) else None
    return isinstance(target, str) and target.rpartition(".")[2] in _LOADERS
