"""The site's audit record repository: every message that concerns it, in order, none left out."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import structlog

from dicom_node import syslog
from dicom_node.alerts.channels import receiver_of
from dicom_node.audit import identity_of, message_of
from dicom_node.clock import Clock
from dicom_node.config import NodeConfig
from dicom_node.config.watching import AuditSection
from dicom_node.errors import NodeError
from dicom_node.logs import error_facts
from dicom_node.store import chain
from dicom_node.store.database import Database
from dicom_node.store.watch_tables import REPOSITORY, AuditMark

_log = structlog.get_logger()

_AT_ONCE: Final = 200
_FIRST_WAIT: Final = timedelta(seconds=5)
_LONGEST_WAIT: Final = timedelta(minutes=15)


class RepositorySender:
    """Sends what was sealed and not sent yet; the place it has got to is in the database.

    What was sealed before a repository was configured for the first time is not sent.
    """

    def __init__(
        self, config: NodeConfig, section: AuditSection, database: Database, clock: Clock
    ) -> None:
        self._receiver = receiver_of(section)
        self._identity = identity_of(config)
        self._database = database
        self._clock = clock

    def begin(self) -> None:
        """Note where the repository begins, if it has not begun yet."""
        with self._database.write() as session:
            if session.get(AuditMark, REPOSITORY) is None:
                position = chain.head(session).position
                now = self._clock.now()
                session.add(AuditMark(name=REPOSITORY, position=position, at=now, failures=0))

    def send_audit_messages(self) -> int:
        """Send what waits; returns how many messages."""
        number = 0
        while True:
            with self._database.read() as session:
                mark = session.get_one(AuditMark, REPOSITORY)
                if mark.not_before is not None and mark.not_before > self._clock.now():
                    return number
                batch = list(chain.sealed(session, mark.position, _AT_ONCE))
            if not batch:
                return number
            messages = [
                syslog.message(
                    syslog.Facility.AUTH_PRIVATE,
                    syslog.Level.NOTICE,
                    item.event.at,
                    "DICOM+RFC3881",
                    text,
                )
                for item in batch
                if item.event is not None
                and (text := message_of(item.event, self._identity, item.link)) is not None
            ]
            try:
                if messages:
                    syslog.send(self._receiver, messages)
            except NodeError as error:
                self._failed(error)
                return number
            self._sent(batch[-1].link.position)
            number += len(messages)

    def _sent(self, position: int) -> None:
        with self._database.write() as session:
            mark = session.get_one(AuditMark, REPOSITORY)
            if mark.trouble is not None:
                _log.info("audit_repository_is_back", after_failures=mark.failures)
            mark.position, mark.at = position, self._clock.now()
            mark.failures, mark.not_before, mark.trouble = 0, None, None

    def _failed(self, error: NodeError) -> None:
        with self._database.write() as session:
            mark = session.get_one(AuditMark, REPOSITORY)
            mark.failures += 1
            mark.trouble = error.why
            wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(mark.failures - 1, 10))
            mark.not_before = self._clock.now() + wait
            failures = mark.failures
        if failures & (failures - 1) == 0:
            _log.error("audit_messages_not_sent", failures=failures, **error_facts(error))
