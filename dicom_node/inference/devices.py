"""Where networks run, so that the same input gives the same numbers, and the record of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import numpy.typing as npt
import torch

from dicom_node.errors import PipelineError

_RECORDED: Final = (
    "dicom-node",
    "torch",
    "monai",
    "numpy",
    "pydicom",
    "pylibjpeg-libjpeg",
    "pylibjpeg-openjpeg",
    "pylibjpeg-rle",
    "python-gdcm",
)


def device_of(wanted: str) -> torch.device:
    """Return the device that `inference.device` names; "auto" is a GPU if there is one.

    Raises:
        PipelineError: There is no such device.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise PipelineError(
            f"inference.device: {wanted}",
            "there is no device of that kind",
            "write auto, cpu, cuda or cuda:N",
        ) from None
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise PipelineError(
            f"inference.device: {wanted}",
            f"this machine shows {count} GPUs to PyTorch",
            "install the driver, or set `inference.device: auto`",
        )
    return device


def make_deterministic(threads: int, *, strict: bool = True) -> None:
    """Same input, same version, same device class: same numbers.

    Args:
        threads: CPU threads; 0 leaves PyTorch's own choice.
        strict: False lets a GPU choose its algorithms by speed, and TensorFloat-32: numbers then
            differ in their last digits from run to run.
    """
    if threads:
        torch.set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.manual_seed(0)
    # some backward passes that Grad-CAM needs have no deterministic form: those warn
    torch.use_deterministic_algorithms(strict, warn_only=True)
    # PyTorch would fill each step's memory before the step writes it; nothing reads it in between
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not strict
    torch.backends.cuda.matmul.allow_tf32 = not strict
    torch.backends.cudnn.allow_tf32 = not strict


def onto(device: torch.device, values: npt.NDArray[Any]) -> torch.Tensor:
    """Put an array onto a device; to a GPU through pinned memory, while the host goes on."""
    tensor = torch.from_numpy(values)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def record_of(device: torch.device, precision: str = "float32") -> Mapping[str, str | int | bool]:
    """Return what the numbers depend on beside the input: device, precision, versions."""
    cuda = device.type == "cuda"
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if cuda else platform.machine(),
        "precision": precision,
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "python": platform.python_version(),
        **{name.replace("-", "_"): _version(name) for name in _RECORDED},
    }


@cache
def _version(package: str) -> str:
    # looked up once: each look parses the package's whole description
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
