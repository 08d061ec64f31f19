"""What is measured at the machine for the alerts: clock, certificates, files, processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from sqlalchemy import select

from dicom_node.clock import Clock, ClockSteps
from dicom_node.config import NodeConfig
from dicom_node.config.watching import SyslogChannel
from dicom_node.serve.away import away
from dicom_node.serve.locks import holders
from dicom_node.store.database import Database
from dicom_node.store.tables import Instance

_log = structlog.get_logger()

_JUMP_TOLD: Final = timedelta(minutes=10)
"""How long it is told that the clock was set."""
_FILES_AT_ONCE: Final = 200


class ClockWatch:
    """Notices that the clock was set while we ran, and goes on telling it for a while."""

    def __init__(
        self, clock: Clock, limit: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._steps = ClockSteps(clock, monotonic)
        self._limit = limit
        self._monotonic = monotonic
        self._jump = 0.0
        self._told_until = 0.0

    def look(self) -> float:
        """Return by how many seconds the clock was set lately; 0: it was not."""
        step, steady = self._steps.look(), self._monotonic()
        if abs(step) > self._limit:
            self._jump = step
            self._told_until = steady + _JUMP_TOLD.total_seconds()
            _log.warning("clock_was_set", by_seconds=round(step, 1))
        return self._jump if steady < self._told_until else 0.0


class FileWatch:
    """Looks for files that the index knows, a few at a time, round and round."""

    def __init__(self, config: NodeConfig, database: Database) -> None:
        self._folder = config.spool_dir
        self._host = config.this_host
        self._database = database
        self._last = 0
        self._missing: set[int] = set()

    def look(self) -> int:
        """Return how many files are known to be gone."""
        paths = select(Instance.id, Instance.path).where(
            Instance.purged_at.is_(None), Instance.host == self._host
        )
        with self._database.read() as session:
            rows = session.execute(
                paths.where(Instance.id > self._last).order_by(Instance.id).limit(_FILES_AT_ONCE)
            ).all()
        self._last = rows[-1].id if len(rows) == _FILES_AT_ONCE else 0
        suspects = self._missing | {row.id for row in rows if not self._is_there(row.path)}
        if suspects:
            # one may have been given up, or have come again, since it was looked for
            gone: set[int] = set()
            asked = sorted(suspects)
            with self._database.read() as session:
                # a whole disk may be gone, and a statement takes only so many parameters
                for first in range(0, len(asked), _FILES_AT_ONCE):
                    some = Instance.id.in_(asked[first : first + _FILES_AT_ONCE])
                    again = session.execute(paths.where(some)).all()
                    gone |= {row.id for row in again if not self._is_there(row.path)}
            if gone - self._missing:
                new = sorted(gone - self._missing)
                _log.error("files_are_gone", instances=new[:20], number=len(new))
            self._missing = gone
        return len(self._missing)

    def _is_there(self, path: str) -> bool:
        return (self._folder / path).is_file()


def roles_down(config: NodeConfig) -> list[str]:
    """Return the processes that the supervisor should run on this data folder, and does not."""
    running = holders(config.node.data_dir)
    if "supervisor" not in running:
        return []
    expected = ["coordinator", *(["keeper"] if config.hosts is not None else [])]
    expected += [f"receiver-{number}" for number in range(config.receive.processes)]
    expected += [f"worker-{number}" for number in range(config.inference.workers)]
    if config.web is not None:
        expected.append("web-0")
    missing = [name for name in expected if name not in running]
    return [*missing, *(["Ray cluster"] if away(config) else [])]


def certificate_ends(config: NodeConfig) -> dict[str, datetime]:
    """Return when our certificates end, by what each is for.

    One that cannot be read is told by `dicom-node check` and by what uses it.
    """
    files: dict[str, Path] = {}
    if config.receive.tls is not None:
        files["of receive.tls"] = config.receive.tls.certificate
    for name, peer in config.peers.items():
        if peer.tls is not None and peer.tls.certificate is not None:
            files[f"for peer {name}"] = peer.tls.certificate
    if config.hosts is not None:
        files["of hosts"] = config.hosts.certificate
    if config.web is not None and config.web.tls is not None:
        files["of web.tls"] = config.web.tls.certificate
    if config.audit is not None and config.audit.certificate is not None:
        files["for the audit repository"] = config.audit.certificate
    for name, channel in config.alerts.channels.items():
        if isinstance(channel, SyslogChannel) and channel.certificate is not None:
            files[f"for the alert channel {name}"] = channel.certificate
    return dict(_ends(files))


def _ends(files: Mapping[str, Path]) -> list[tuple[str, datetime]]:
    found = []
    for name, file in files.items():
        try:
            certificates = x509.load_pem_x509_certificates(file.read_bytes())
        except (OSError, ValueError) as error:
            _log.warning("certificate_not_read", file=str(file), error=type(error).__name__)
            continue
        # the chain is as good as its first link to end
        end = min(item.not_valid_after_utc for item in certificates)
        found.append((name, end.astimezone(UTC)))
    return found
