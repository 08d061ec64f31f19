"""When memory is short: on the GPU smaller batches, on the machine an error that says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from dicom_node.errors import PipelineError

_ALLOCATOR_SAYS: Final = ("can't allocate memory", "not enough memory")
"""In the text of the RuntimeError that PyTorch's CPU allocator raises (c10/core/impl/alloc_cpu)."""


class HostMemoryError(PipelineError):
    """A pipeline wanted more memory than its process may take."""


class DeviceMemoryError(PipelineError):
    """A pipeline wanted more memory than the GPU has, even with the smallest batch."""


def host_memory_is_short(error: BaseException) -> bool:
    """Tell whether an error, of Python's allocator or of PyTorch's, says so."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, torch.OutOfMemoryError) or not isinstance(error, RuntimeError):
        return False
    text = str(error)
    return any(words in text for words in _ALLOCATOR_SAYS)


def memory_error(error: BaseException, pipeline: str, part: str) -> PipelineError | None:
    """Return the error that a shortage of memory becomes; None when it is another error."""
    what = f"pipeline {pipeline}"
    if isinstance(error, torch.OutOfMemoryError):
        return DeviceMemoryError(
            what,
            f"its {part} wanted more memory than the GPU has",
            "set `inference.cpu_fallback: true`, use a larger GPU, or one worker for each GPU",
        )
    if host_memory_is_short(error):
        return HostMemoryError(
            what,
            f"its {part} wanted more memory than its worker may take",
            "raise `inference.max_memory_mb`",
        )
    return None


def infer(run: Callable[[Tensor], Any], batch: Tensor) -> Any:
    """Run a network on a batch, [N, ...]; in smaller parts when the GPU's memory is short.

    The first axis holds independent samples, as everywhere in PyTorch: parts give what the
    whole would have given. A network whose output has another first axis is not run in parts.

    Raises:
        torch.OutOfMemoryError: It does not fit.
    """
    size = max(1, len(batch))
    while True:
        try:
            found = [run(part) for part in _parts(batch, size)]
        except torch.OutOfMemoryError:
            if size <= 1:
                raise
        else:
            return found[0] if len(found) == 1 else _joined(found, batch, size)
        # outside of the handler: its error keeps the tensors of the failed attempt alive
        torch.cuda.empty_cache()
        size = (size + 1) // 2


def _parts(batch: Tensor, size: int) -> Sequence[Tensor]:
    return [batch[start : start + size] for start in range(0, len(batch), size)] or [batch]


def _joined(found: Sequence[Any], batch: Tensor, size: int) -> Any:
    first = found[0]
    if isinstance(first, Tensor):
        lengths = [part.shape[0] if part.ndim else 0 for part in found]
        if lengths != [len(part) for part in _parts(batch, size)]:
            raise torch.OutOfMemoryError("the network does not keep its batches apart")
        return torch.cat(list(found))
    if isinstance(first, Mapping):
        return {key: _joined([part[key] for part in found], batch, size) for key in first}
    return [_joined(list(parts), batch, size) for parts in zip(*found, strict=True)]
