"""Logging: structlog to standard error, for a person on a terminal or as JSON for a machine.

No value of a data set reaches a log: of an exception that is not ours only the type and the place
are written, and of a library's message only who said it. Either text may quote a patient's name.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import Final

import structlog

from dicom_node.errors import NodeError

_log = structlog.get_logger()

_FRAMES: Final = 4
"""Places of a trace that are told: enough to find the line, whoever raised it."""

_SILENT: Final = ("pynetdicom", "highdicom", "alembic")
"""They log headers at INFO and WARNING; what matters of it we log ourselves."""


def set_up_logging(role: str, json: bool | None = None) -> None:
    """Configure logging for this process.

    Args:
        role: Bound to every line ("receiver", "worker").
        json: JSON lines; default: JSON unless standard error is a terminal.
    """
    terminal = sys.stderr.isatty()
    as_json = not terminal if json is None else json
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=terminal)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _with_role(role),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _without_values,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    logging.basicConfig(handlers=[_Librarian()], level=logging.WARNING, force=True)
    # pydicom warns of a bad value by quoting it
    logging.captureWarnings(True)
    for name in _SILENT:
        logging.getLogger(name).setLevel(logging.ERROR)
    # its exceptions come to the coordinator's own listener
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def error_facts(error: BaseException) -> dict[str, str]:
    """Return what may be logged of an error.

    Of ours its what, why and fix; of any other its type and the last places of its trace.
    """
    if isinstance(error, NodeError):
        return {"what": error.what, "why": error.why, "fix": error.fix}
    return {"error": type(error).__name__, "where": place_of(error)}


def place_of(error: BaseException) -> str:
    """Return where an error was raised, innermost last: "worker.py:120 > loaded.py:88"."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)


class _Librarian(logging.Handler):
    """Says that a library logged something, and where, without its text."""

    def emit(self, record: logging.LogRecord) -> None:
        _log.warning(
            "library_message",
            library=record.name,
            level_there=record.levelname.lower(),
            where=f"{record.filename}:{record.lineno}",
        )


def _with_role(role: str) -> structlog.typing.Processor:
    """Put the role into every line: a context variable would not reach other threads."""

    def put(
        _: structlog.typing.WrappedLogger, __: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        event.setdefault("role", role)
        return event

    return put


def _without_values(
    _: structlog.typing.WrappedLogger, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Replace an exception to be logged by its type and place."""
    info = event.pop("exc_info", None)
    if info:
        error = info if isinstance(info, BaseException) else sys.exc_info()[1]
        if isinstance(info, tuple):
            error = info[1]
        if error is not None:
            event.update(error_facts(error))
    return event


def _uncaught(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    _log.critical("process_crashed", **error_facts(error))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or issubclass(args.exc_type, SystemExit):
        return
    thread = args.thread.name if args.thread else ""
    _log.critical("thread_crashed", thread=thread, **error_facts(args.exc_value))
