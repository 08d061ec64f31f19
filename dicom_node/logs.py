"""Logging: structlog to standard error, for a person on a terminal or as JSON for a machine."""

from __future__ import annotations

import logging
import sys

import structlog


def set_up_logging(role: str, json: bool | None = None) -> None:
    """Configure logging for this process.

    Args:
        role: Bound to every line ("receiver", "worker-0").
        json: JSON lines; default: JSON unless standard error is a terminal.
    """
    as_json = not sys.stderr.isatty() if json is None else json
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks if as_json else _keep,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(role=role)
    # libraries log headers at INFO, and those hold patient data
    for name in ("pynetdicom", "pydicom", "highdicom", "alembic", "apscheduler"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _keep(
    _: structlog.typing.WrappedLogger, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return event
