"""What a message says, in one form for all channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from dicom_node.model.alerts import Change, Severity


@dataclass(frozen=True, slots=True)
class Notice:
    """One message; never holds patient data.

    Attributes:
        node: Our AE title: a site may have several nodes.
        rule: `AlertRule`, or "test".
        since: Since when it is so; of a recovery: when it was over.
    """

    node: str
    rule: str
    subject: str
    change: Change
    severity: Severity
    text: str
    fix: str
    since: datetime

    @property
    def title(self) -> str:
        about = f" ({self.subject})" if self.subject else ""
        word = {
            Change.FIRING: str(self.severity),
            Change.STILL: f"still {self.severity}",
            Change.RECOVERED: "recovered",
            Change.TEST: "test",
        }[self.change]
        return f"[{self.node}] {word}: {self.rule.replace('_', ' ')}{about}"

    @property
    def lines(self) -> list[str]:
        """The message in plain sentences."""
        word = "Over since" if self.change is Change.RECOVERED else "Since"
        told = [self.text, f"{word} {self.since.isoformat(timespec='seconds')}."]
        if self.fix and self.change is not Change.RECOVERED:
            told.append(f"What to do: {self.fix}")
        return told

    def plain(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {**asdict(self), "since": self.since.isoformat(timespec="seconds")}

    @classmethod
    def of_plain(cls, data: Mapping[str, Any]) -> Notice:
        return cls(
            **{
                **data,
                "change": Change(data["change"]),
                "severity": Severity(data["severity"]),
                "since": datetime.fromisoformat(data["since"]),
            }
        )


def trial(node: str, now: datetime) -> Notice:
    """Return what `dicom-node alerts test` sends."""
    return Notice(
        node,
        "test",
        "",
        Change.TEST,
        Severity.WARNING,
        "This is a test of the alerts of dicom-node. Nothing is wrong.",
        "",
        now,
    )
