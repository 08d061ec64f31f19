"""What of a bundle runs here, what is left out, what needs trust: for the person who adds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from monai.bundle import ConfigParser

from dicom_node.inference.bundle_config import problems, read_parser
from dicom_node.inference.bundles import BUILT_IN, Bundle
from dicom_node.inference.trust import Trust, trust_of
from dicom_node.inference.weights_file import is_torchscript

_PLUMBING: Final = frozenset({"imports", "import", "bundle_root", "device"})


@dataclass(frozen=True, slots=True)
class Inspection:
    """A bundle, looked at without running any of it.

    Attributes:
        used: Keys of the inference configuration that are built.
        ignored: Keys that MONAI's own runner would use and the node does not.
        code: Why it needs trust, place by place; empty: it needs none.
        trust: None for a pipeline that is built in.
    """

    used: tuple[str, ...]
    ignored: tuple[str, ...]
    code: tuple[str, ...]
    trust: Trust | None


def inspect(bundle: Bundle) -> Inspection:
    """Look at a bundle's configuration and weights; runs nothing of it.

    Raises:
        PipelineError: Its configuration or weights cannot be read.
    """
    parser = read_parser(bundle, torch.device("cpu"))
    whole = ConfigParser()
    whole.read_config(str(bundle.inference_config))
    known = [key for key in whole.get() if key != ConfigParser.meta_key]
    used = [key for key in parser.get() if key in known]
    code = list(problems(parser))
    if bundle.weights.is_file() and is_torchscript(bundle.weights.read_bytes()):
        code.append(f"{bundle.weights.name} is TorchScript, which is a program")
    return Inspection(
        tuple(key for key in used if key not in _PLUMBING),
        tuple(key for key in known if key not in used and key not in _PLUMBING),
        tuple(code),
        None if bundle.folder.parent == BUILT_IN else trust_of(bundle.folder),
    )
