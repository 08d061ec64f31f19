"""When each process of the node began and ended, for the audit trail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from dicom_node import __version__
from dicom_node.clock import SystemClock
from dicom_node.logs import error_facts
from dicom_node.serve.supervisor import CHILD, SUPERVISED
from dicom_node.store import audit
from dicom_node.store.database import Database

_log = structlog.get_logger()


@contextmanager
def told_in_audit_trail(database: Database, role: str) -> Iterator[None]:
    """Tell of a role's start and of its end; one that is killed has no end."""
    child = os.environ.get(CHILD, "") if SUPERVISED in os.environ else ""
    who: dict[str, Any] = {"role": role, "child": child or role, "version": __version__}
    clock = SystemClock()
    with database.write() as session:
        audit.record(session, clock.now(), "role_started", **who)
    try:
        yield
    finally:
        try:
            with database.write() as session:
                audit.record(session, clock.now(), "role_ended", **who)
        except SQLAlchemyError as error:
            # why the role ends matters more than that it cannot say so
            _log.error("role_end_not_recorded", **error_facts(error))
