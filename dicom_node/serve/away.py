"""A note of each worker that waits for its Ray cluster, for whoever asks what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from dicom_node.config import NodeConfig
from dicom_node.errors import NodeError

_FOLDER: Final = "away"


@dataclass(frozen=True, slots=True)
class Away:
    """What a worker waits for."""

    worker: str
    what: str
    why: str
    fix: str
    since: datetime


class AwayNote:
    """The note of one worker.

    Args:
        worker: Its name in the queue.
    """

    def __init__(self, data_dir: Path, worker: str) -> None:
        self._file = data_dir / _FOLDER / f"{worker}.json"

    def put(self, error: NodeError, now: datetime) -> None:
        """Note what is away; who waits already waits since then."""
        since = next((note.since for note in _read(self._file)), now)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        partial = self._file.with_suffix(".partial")
        note = {"what": error.what, "why": error.why, "fix": error.fix, "since": since.isoformat()}
        partial.write_text(json.dumps(note), encoding="utf-8")
        partial.replace(self._file)

    def clear(self) -> None:
        """It is there again."""
        self._file.unlink(missing_ok=True)


def away(config: NodeConfig) -> list[Away]:
    """Return what the workers on this data folder wait for; nothing when they are well."""
    if config.inference.executor == "local":
        return []
    files = sorted((config.node.data_dir / _FOLDER).glob("*.json"))
    return [note for file in files for note in _read(file)]


def _read(file: Path) -> Iterator[Away]:
    try:
        note = json.loads(file.read_text(encoding="utf-8"))
        since = datetime.fromisoformat(note["since"])
        yield Away(file.stem, note["what"], note["why"], note["fix"], since)
    except (OSError, ValueError, KeyError):
        return  # nobody has written it, or a disk that was full has cut it off
