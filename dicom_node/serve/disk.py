"""The disk's watermarks: below the first the node warns, below the second it refuses images."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog

from dicom_node.clock import Clock
from dicom_node.config import NodeConfig
from dicom_node.store import audit
from dicom_node.store.database import Database

_log = structlog.get_logger()


class DiskLevel(StrEnum):
    """How much room is left."""

    OK = "ok"
    LOW = "low"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class DiskState:
    """Free space beside its watermarks, in MiB.

    Attributes:
        warn_below: `node.warn_free_mb`.
        refuse_below: `node.min_free_mb`.
    """

    level: DiskLevel
    free: int
    warn_below: int
    refuse_below: int

    @property
    def seen(self) -> str:
        return (
            f"{self.free} MiB free, warned of below {self.warn_below} MiB, "
            f"images are refused below {self.refuse_below} MiB"
        )


def disk_state(config: NodeConfig) -> DiskState:
    """Look at the disk of the data folder, which need not be there yet.

    Raises:
        OSError: The file system does not answer.
    """
    folder = config.node.data_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free // (1024 * 1024)
    warn, refuse = config.node.warn_below_mb, config.node.min_free_mb
    level = DiskLevel.FULL if free < refuse else DiskLevel.LOW if free < warn else DiskLevel.OK
    return DiskState(level, free, warn, refuse)


class DiskWatch:
    """Tells log and audit trail when the disk passes a watermark, each time once."""

    def __init__(self, config: NodeConfig, database: Database, clock: Clock) -> None:
        self._config = config
        self._database = database
        self._clock = clock
        self._level = DiskLevel.OK

    def watch_disk(self) -> None:
        """Look once; to be called again and again."""
        state = disk_state(self._config)
        if state.level is self._level:
            return
        tell = _log.info if state.level is DiskLevel.OK else _log.warning
        tell(f"disk_{state.level}", free_mb=state.free, fix=_FIXES[state.level])
        # said above first: a disk that is full may refuse the row, which is then tried again
        data: dict[str, Any] = {"free_mb": state.free}
        if self._config.this_host is not None:
            data["host"] = self._config.this_host
        with self._database.write() as session:
            audit.record(session, self._clock.now(), f"disk_{state.level}", **data)
        self._level = state.level


_FIXES = {
    DiskLevel.OK: "",
    DiskLevel.LOW: "free space soon, or lower `node.warn_free_mb`",
    DiskLevel.FULL: "free space: images are refused with 0xA700; see `retention` in node.yaml",
}
