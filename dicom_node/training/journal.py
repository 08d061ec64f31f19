"""The log of a training: a text file, a table of epochs, and TensorBoard where it is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any


class Journal:
    """Writes `log.txt` and, where the package tensorboard is installed, `tensorboard/`.

    Use as a context; it is the `Watch` that trainers are given.

    Args:
        show: Called with the share done and a few words, for a progress bar.
        tell: Called with each line that a person should see.
    """

    def __init__(
        self, folder: Path, show: Callable[[float, str], None], tell: Callable[[str], None]
    ) -> None:
        self._folder = folder
        self._show = show
        self._tell = tell
        self._share = 0.0
        self._board: Any = None

    def __enter__(self) -> Journal:
        self._file = (self._folder / "log.txt").open("a", encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError:
            self.note("no TensorBoard log: the Python package tensorboard is not installed")
        else:
            self._board = SummaryWriter(str(self._folder / "tensorboard"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._show(1.0, "done")
        if self._board is not None:
            self._board.close()
        self._file.close()

    def note(self, text: str) -> None:
        """Write a line with its time (UTC)."""
        self._file.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}\n")
        self._file.flush()

    def step(self, share: float, loss: float) -> None:
        """Show how far it is; the share never falls back."""
        self._share = max(self._share, min(1.0, share))
        self._show(self._share, f"loss {loss:.3f}")

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        """Write and tell an epoch's figures."""
        text = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        self.note(f"epoch {number}: {text}")
        self._tell(f"epoch {number}: {text}")
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, number)
