"""What was measured outside of the database, for the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at the machine.

    Attributes:
        disk: "ok", "low" or "full"; `disk_text` says how much is free.
        roles_down: Names of the processes that should run on this data folder, and do not.
        clock_jump: Seconds by which the clock was set since not long ago; 0: it was not.
        certificates: When each certificate ends, by what it is for.
        files_missing: Files of the spool that the index knows and the disk does not have.
        audit_broken: What is wrong with the audit trail's chain; "": nothing.
    """

    disk: str = "ok"
    disk_text: str = ""
    roles_down: Sequence[str] = ()
    clock_jump: float = 0.0
    certificates: Mapping[str, datetime] = field(default_factory=dict)
    files_missing: int = 0
    audit_broken: str = ""
