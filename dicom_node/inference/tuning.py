"""How a pipeline's network runs on a machine: what `pipelines tune` chose, or what is safe."""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog
import torch

from dicom_node.errors import StoreError
from dicom_node.inference.bundles import Bundle

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Tuning:
    """The options of one pipeline; the defaults suit every machine, and change a network's
    output by rounding alone.

    Attributes:
        channels_last: Images lie in memory with their channels last, as oneDNN and cuDNN want it.
        folded: Batch normalisation is folded into the convolutions: one step less in each layer.
        bfloat16: Convolutions and products run in bfloat16 (`torch.autocast`).
    """

    channels_last: bool = True
    folded: bool = True
    bfloat16: bool = False

    @property
    def precision(self) -> str:
        return "bfloat16" if self.bfloat16 else "float32"

    def autocast(self, kind: str) -> AbstractContextManager[object]:
        """Return the context in which the network runs; `kind` is that of the device."""
        if not self.bfloat16:
            return contextlib.nullcontext()
        return torch.autocast(kind, dtype=torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a choice was made for; it does not hold for anything else."""

    version: str
    weights_sha256: str
    device: str
    machine: str
    threads: int
    pytorch: str

    @classmethod
    def of(cls, bundle: Bundle, device: torch.device) -> Circumstances:
        cuda = device.type == "cuda"
        return cls(
            bundle.version,
            bundle.weights_sha256,
            device.type,
            torch.cuda.get_device_name(device) if cuda else processor(),
            0 if cuda else torch.get_num_threads(),
            torch.__version__,
        )


def processor() -> str:
    """Return the processor's kind with its widest vector instructions ("x86_64 AVX512")."""
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def save_tuning(
    folder: Path, bundle: Bundle, device: torch.device, tuning: Tuning, why: Mapping[str, Any]
) -> Path:
    """Write a choice to `folder`, for the engine to find.

    Raises:
        StoreError: The folder cannot be written.
    """
    file = folder / f"{bundle.name}.json"
    content = {
        "chosen": asdict(tuning),
        "for": asdict(Circumstances.of(bundle, device)),
        "measured": why,
    }
    fresh = file.with_suffix(".new")
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        fresh.write_text(json.dumps(content, indent=2) + "\n")
        fresh.replace(file)
    return file


def forget_tuning(folder: Path, name: str) -> bool:
    """Take back a pipeline's choice; False when there was none.

    Raises:
        StoreError: The folder cannot be written.
    """
    file = folder / f"{name}.json"
    with _writing(folder):
        there = file.is_file()
        file.unlink(missing_ok=True)
    return there


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            str(folder),
            error.strerror or "the disk refused",
            "run it as the user that the node runs as, or correct `node.data_dir`",
        ) from None


def tuning_of(folder: Path | None, bundle: Bundle, device: torch.device) -> Tuning:
    """Return what was chosen for a pipeline here; the defaults when that is stale or nothing."""
    file = folder / f"{bundle.name}.json" if folder else None
    if file is None or not file.is_file():
        return Tuning()
    try:
        content = json.loads(file.read_text())
        chosen, made_for = Tuning(**content["chosen"]), Circumstances(**content["for"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("tuning_not_read", pipeline=bundle.name, error=type(error).__name__)
        return Tuning()
    if made_for != Circumstances.of(bundle, device):
        _log.warning(
            "tuning_is_stale",
            pipeline=bundle.name,
            fix=f"`dicom-node pipelines tune {bundle.name}`",
        )
        return Tuning()
    return chosen
