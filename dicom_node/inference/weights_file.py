"""A weights file of any of MONAI's kinds: safetensors, state dict (`.pt`), TorchScript (`.ts`)."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from io import BytesIO
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from dicom_node.errors import PipelineError

_NESTED: Final = ("model", "state_dict", "model_state_dict", "network", "net")
"""Under which a checkpoint keeps the network's tensors, beside those of the optimiser."""
_PARALLEL: Final = "module."

CONVERT: Final = (
    "if you trust where the file comes from, convert it on a machine that holds nothing of worth: "
    """python -c "import torch, safetensors.torch as s; """
    """d = torch.load('model.pt', map_location='cpu', weights_only=False); """
    """d = d.state_dict() if hasattr(d, 'state_dict') else d; """
    """s.save_file({k: v.clone().contiguous() for k, v in d.items()}, 'model.safetensors')\""""
)


def is_torchscript(content: bytes) -> bool:
    """Tell whether a file is a TorchScript archive, which is a program and not only numbers."""
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def read_torchscript(content: bytes, name: str) -> nn.Module:
    """Load a TorchScript network, on the CPU.

    Raises:
        PipelineError: It is damaged, or of another version of PyTorch.
    """
    try:
        network = torch.jit.load(  # type: ignore[no-untyped-call]
            BytesIO(content), map_location="cpu"
        )
    except RuntimeError as error:
        raise PipelineError(
            name,
            f"PyTorch {torch.__version__} cannot load it: {str(error).splitlines()[0]}",
            "export it again with this version of PyTorch",
        ) from None
    assert isinstance(network, nn.Module)
    return network


def read_weights(content: bytes, name: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file or a state dict, floats as float32.

    Raises:
        PipelineError: It is neither, or a pickle of more than tensors.
    """
    tensors = _safetensors(content, name) if is_safetensors(content) else _pickled(content, name)
    return {
        key: value.float() if value.is_floating_point() else value for key, value in tensors.items()
    }


def is_safetensors(content: bytes) -> bool:
    """Tell by its beginning: a pickle of PyTorch is a zip file, or begins with a pickle's mark."""
    return not content.startswith((b"PK\x03\x04", b"\x80"))


def _safetensors(content: bytes, name: str) -> dict[str, Tensor]:
    try:
        return load(content)
    except SafetensorError as error:
        raise PipelineError(
            name,
            f"it is no safetensors file: {error}",
            "convert the weights with safetensors.torch.save_file",
        ) from None


def _pickled(content: bytes, name: str) -> dict[str, Tensor]:
    try:
        found = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise PipelineError(
            name, "it is a pickle of more than tensors, which may run any code", CONVERT
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise PipelineError(
            name, f"it is no weights file of PyTorch: {type(error).__name__}", "restore the file"
        ) from None
    found = _state_dict(found)
    if not found:
        raise PipelineError(
            name, "it holds no network's tensors", "save `network.state_dict()` in it"
        )
    return found


def _state_dict(found: Any) -> dict[str, Tensor]:
    if not isinstance(found, Mapping):
        return {}
    for key in _NESTED:
        if isinstance(found.get(key), Mapping):
            return _state_dict(found[key])
    if not all(isinstance(value, Tensor) for value in found.values()):
        return {}
    # of a network that was trained on several GPUs
    parallel = all(str(key).startswith(_PARALLEL) for key in found)
    cut = len(_PARALLEL) if parallel else 0
    return {str(key)[cut:]: value for key, value in found.items()}
