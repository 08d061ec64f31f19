"""What the machine's GPUs do, as the driver's own tool tells it; no CUDA context is opened."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import Final

_FIELDS: Final = "name,memory.used,memory.total,utilization.gpu,temperature.gpu"
_PATIENCE: Final = 5.0


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: memory in MiB, use in percent, degrees Celsius; None: it does not say."""

    name: str
    memory_used: int | None
    memory_total: int | None
    use: int | None
    temperature: int | None


def gpus() -> list[Gpu]:
    """Return the machine's GPUs; none when it has no driver."""
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parsed(done.stdout) if done.returncode == 0 else []


def parsed(text: str) -> list[Gpu]:
    """Read the tool's lines, one a GPU."""
    found = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == len(_FIELDS.split(",")):
            found.append(Gpu(parts[0], *map(_number, parts[1:])))
    return found


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None
