"""Seals the audit trail, and notes its head outside of the database, where a deletion shows."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy.orm import Session

from dicom_node.clock import Clock
from dicom_node.config import NodeConfig
from dicom_node.errors import StoreError
from dicom_node.store import audit, chain, chain_check
from dicom_node.store.chain import Link
from dicom_node.store.chain_check import ACCEPTED, Verdict
from dicom_node.store.database import Database
from dicom_node.store.files import write_durably

_log = structlog.get_logger()

_BATCH: Final = 500
_WHOLE_EVERY: Final = timedelta(hours=24)
_THOROUGHLY_EVERY: Final = 600
"""Looks between two that go through all events."""


def head_file(config: NodeConfig) -> Path:
    """Return the file that the chain's head is noted in."""
    return config.node.data_dir / "audit-head.json"


def noted_head(config: NodeConfig) -> Link | None:
    """Return the head as it was noted; None: it never was.

    Raises:
        StoreError: The file cannot be read, or holds none.
    """
    file = head_file(config)
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        return Link(int(told["position"]), str(told["digest"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            str(file),
            f"the head of the audit trail cannot be read from it ({type(error).__name__})",
            "find out who changed it; `dicom-node audit accept` notes the head anew",
        ) from None


def note_head(config: NodeConfig, link: Link) -> None:
    """Note the head of the chain, in place of the one before."""
    text = json.dumps({"position": link.position, "digest": link.digest})
    write_durably(head_file(config), text.encode("ascii"))


def _standing_note(config: NodeConfig, session: Session, now: datetime) -> Link | None:
    """Return the head as it was noted, unless retention may have taken it since.

    A host that takes the work over after having stood by for long has an old note.

    Raises:
        StoreError: As `noted_head`.
    """
    noted = noted_head(config)
    days = config.retention.records_days
    if noted is None or days is None:
        return noted
    # a younger note stands: who makes the chain anew can tell a beginning, and not change the file
    old = now.timestamp() - head_file(config).stat().st_mtime > days * 86_400
    return None if old and noted.position < chain.beginning(session) else noted


def verify(config: NodeConfig, database: Database, now: datetime) -> Verdict:
    """Compute the whole chain again, up to the head that was noted."""
    with database.read() as session:
        return chain_check.verify(session, _standing_note(config, session, now))


def accept(config: NodeConfig, database: Database, now: datetime, by: str, why: str) -> int:
    """Accept the trail as it is: its deviations go on record, and the head is noted anew.

    Returns:
        How many deviations were accepted.
    """
    with database.read() as session:
        try:
            noted = _standing_note(config, session, now)
        except StoreError:
            noted = None  # what it says is lost, and a new note takes its place
        verdict = chain_check.verify(session, noted)
        head = chain.head(session)
    with database.write() as session:
        audit.record(
            session,
            now,
            ACCEPTED,
            by=by,
            reason=why,
            deviations=[[str(item.deviation), item.position] for item in verdict.broken],
            noted=noted.position if noted else None,
            ends_at=head.position,
        )
    note_head(config, head)
    return len(verdict.broken)


class Sealer:
    """Seals what is new; to be called again and again, by one process."""

    def __init__(self, config: NodeConfig, database: Database, clock: Clock) -> None:
        self._config = config
        self._database = database
        self._clock = clock
        self._looks = 0
        self._broken = ""
        self._verified: datetime | None = None

    def broken(self) -> str:
        """What is wrong with the chain, as far as it was looked at; "": nothing."""
        return self._broken

    def seal_audit_trail(self) -> int:
        """Seal all that is not yet; returns how many events.

        Where the database does not go on from the head that was noted, the note stays as it is:
        it is the evidence.
        """
        thorough = self._looks % _THOROUGHLY_EVERY == 0
        self._looks += 1
        number = 0
        while True:
            # computed before the write begins: receivers wait for each other's writes
            with self._database.read() as session:
                links = chain.next_links(session, limit=_BATCH, thorough=thorough)
            if not links:
                break
            with self._database.write() as session:
                chain.put(session, links)
            number += len(links)
        if number or self._looks == 1:
            self._note()
        return number

    def verify_audit_trail(self) -> None:
        """Look at the whole chain, and keep what is wrong for the alerts.

        To be called often: it is looked at once a day, and each time while it is not whole.
        """
        now = self._clock.now()
        # a clock that was put back has the last look in the future
        lately = self._verified is not None and abs(now - self._verified) < _WHOLE_EVERY
        if lately and not self._broken:
            return
        self._verified = now
        verdict = verify(self._config, self._database, now)
        if verdict.whole:
            self._broken = ""
            return
        first = verdict.broken[0]
        self._say_broken(
            f"The audit trail is not whole: {first.text} ({verdict.deviations} deviations)."
        )

    def _note(self) -> None:
        with self._database.read() as session:
            try:
                noted = _standing_note(self._config, session, self._clock.now())
            except StoreError as error:
                self._say_broken(f"{error.what}: {error.why}.")
                return
            head = chain.head(session)
            before = chain.link_at(session, noted.position) if noted and noted.position else noted
        if noted is not None and before != noted:
            self._say_broken(
                f"The audit trail ends at {head.position} and was noted up to {noted.position}."
                if head.position < noted.position
                else f"The audit trail is another than was noted at {noted.position}."
            )
            return
        if noted != head:
            note_head(self._config, head)

    def _say_broken(self, text: str) -> None:
        if text != self._broken:
            _log.error("audit_trail_broken", text=text, fix="`dicom-node audit verify`")
        self._broken = text
