"""The receiver's events into the audit trail."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.clock import Clock
from dicom_node.errors import SpoolError
from dicom_node.logs import error_facts
from dicom_node.model.events import ReceiveEvent, ReceiveKind
from dicom_node.store import audit
from dicom_node.store.database import Database

_log = structlog.get_logger()

_WINDOW: Final = timedelta(minutes=1)
_CALLERS: Final = 60
"""Different ones that are told one by one in a window; more are counted together."""
_MANY: Final = "many different callers came within a minute (find out who calls, and stop it)"
_COUNTED: Final = frozenset(
    {
        ReceiveKind.ASSOCIATION_REJECTED,
        ReceiveKind.ASSOCIATION_ABORTED,
        ReceiveKind.CONNECTION_REFUSED,
        ReceiveKind.COMMITMENT_REPORT_REFUSED,
    }
)
"""What a caller can repeat at will, without an image that would be missed."""


@dataclass(slots=True)
class _Window:
    """An event that was told, and how often the same came since."""

    event: ReceiveEvent
    more: int = 0


class AuditSink:
    """Writes receive events to the database, before the sender is answered. Safe for threads.

    A caller that is rejected again and again must not fill the database: the first time in a
    minute is a row at once, and what follows in that minute is counted and becomes one more row,
    with `times`. When too many different callers come in a minute, they are counted together.

    Raises:
        SpoolError: The database refused; the receiver has logged the event already.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._windows: dict[tuple[str, ...], _Window] = {}

    def __call__(self, event: ReceiveEvent) -> None:
        if event.kind in _COUNTED and not self._is_first(event):
            return
        self._write([(event, 1)])

    def flush(self, now: datetime, *, everything: bool = False) -> None:
        """Write what was counted in windows that are over.

        Args:
            everything: Also in those that are not.
        """
        with self._lock:
            over = [
                key
                for key, window in self._windows.items()
                if everything or now - window.event.at >= _WINDOW
            ]
            ended = [self._windows.pop(key) for key in over]
        counted = [(replace(item.event, at=now), item.more) for item in ended if item.more]
        if counted:
            self._write(counted)

    def _is_first(self, event: ReceiveEvent) -> bool:
        self.flush(event.at)
        key: tuple[str, ...] = (
            event.kind,
            event.calling_ae,
            event.called_ae,
            event.address,
            event.reason,
        )
        with self._lock:
            if key not in self._windows and len(self._windows) >= _CALLERS:
                key = (event.kind,)
                event = replace(event, calling_ae="", address="", reason=_MANY)
            window = self._windows.get(key)
            if window is None:
                self._windows[key] = _Window(event)
                return True
            window.more += 1
            return False

    def _write(self, events: list[tuple[ReceiveEvent, int]]) -> None:
        try:
            with self._database.write(alone=False) as session:
                for event, times in events:
                    repeated = {"times": times} if times > 1 else {}
                    audit.record(
                        session,
                        event.at,
                        str(event.kind),
                        study_uid=event.study_instance_uid or None,
                        peer=event.calling_ae or None,
                        called_ae=event.called_ae,
                        address=event.address,
                        reason=event.reason,
                        status=event.status,
                        sop_instance_uid=event.sop_instance_uid,
                        **repeated,
                    )
        except SQLAlchemyError as error:
            raise SpoolError(
                "audit trail", type(error).__name__, "check the database and its disk"
            ) from error


@contextmanager
def counting(sink: AuditSink, clock: Clock, every: float = 10) -> Iterator[None]:
    """Let a sink write what it has counted, also when nothing more comes."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(every):
            _flush(sink, clock, everything=False)

    thread = threading.Thread(target=run, name="count-refusals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        _flush(sink, clock, everything=True)


def _flush(sink: AuditSink, clock: Clock, *, everything: bool) -> None:
    try:
        sink.flush(clock.now(), everything=everything)
    except SpoolError as error:
        _log.error("refusals_not_counted", **error_facts(error))
