"""What the node raises an alert of: the rules, how grave they are, and their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class AlertRule(StrEnum):
    """What is watched; each is a key of `alerts.rules` in node.yaml."""

    STUDY_STUCK = "study_stuck"
    STUDY_HELD = "study_held"
    PEER_DOWN = "peer_down"
    DELIVERY_LATE = "delivery_late"
    QUEUE_AGE = "queue_age"
    FAILURE_RATE = "failure_rate"
    DISK_LOW = "disk_low"
    DISK_FULL = "disk_full"
    CERTIFICATE = "certificate"
    CLOCK = "clock"
    PIPELINE_SUSPECT = "pipeline_suspect"
    PIPELINE_DISABLED = "pipeline_disabled"
    FILES_LOST = "files_lost"
    FILES_ASIDE = "files_aside"
    HOST_DOWN = "host_down"
    ROLE_DOWN = "role_down"
    ROLE_RESTARTS = "role_restarts"
    REFUSALS = "refusals"
    AUDIT_TRAIL = "audit_trail"
    AUDIT_REPOSITORY = "audit_repository"


class Severity(StrEnum):
    """How soon somebody should look."""

    CRITICAL = "critical"
    WARNING = "warning"


class AlertState(StrEnum):
    """Pending: true, and not yet for long enough to be told."""

    PENDING = "pending"
    FIRING = "firing"
    RECOVERED = "recovered"


class Change(StrEnum):
    """Why a message is sent."""

    FIRING = "firing"
    STILL = "still firing"
    RECOVERED = "recovered"
    TEST = "test"


class MessageState(StrEnum):
    """What became of a message to a channel."""

    WAITING = "waiting"
    SENT = "sent"
    GIVEN_UP = "given up"


@dataclass(frozen=True, slots=True)
class Default:
    """How a rule works when node.yaml says nothing of it.

    Attributes:
        for_minutes: It must hold for so long before it fires.
        limit: What it is measured against, in `unit`; None: it has no limit.
    """

    severity: Severity
    for_minutes: float = 0
    limit: float | None = None
    unit: str = ""


DEFAULTS: Final[Mapping[AlertRule, Default]] = {
    AlertRule.STUDY_STUCK: Default(Severity.WARNING, 0, 60, "minutes without progress"),
    AlertRule.STUDY_HELD: Default(Severity.WARNING, 10),
    AlertRule.PEER_DOWN: Default(Severity.CRITICAL, 10),
    AlertRule.DELIVERY_LATE: Default(Severity.WARNING, 0, 60, "minutes in the outbox"),
    AlertRule.QUEUE_AGE: Default(Severity.WARNING, 0, 30, "minutes in the queue"),
    AlertRule.FAILURE_RATE: Default(Severity.CRITICAL, 0, 20, "percent of an hour's jobs"),
    AlertRule.DISK_LOW: Default(Severity.WARNING, 5),
    AlertRule.DISK_FULL: Default(Severity.CRITICAL),
    AlertRule.CERTIFICATE: Default(Severity.WARNING, 0, 30, "days before it ends"),
    AlertRule.CLOCK: Default(Severity.WARNING, 0, 5, "seconds"),
    AlertRule.PIPELINE_SUSPECT: Default(Severity.CRITICAL, 5),
    AlertRule.PIPELINE_DISABLED: Default(Severity.CRITICAL),
    AlertRule.FILES_LOST: Default(Severity.CRITICAL),
    AlertRule.FILES_ASIDE: Default(Severity.WARNING),
    AlertRule.HOST_DOWN: Default(Severity.CRITICAL, 1),
    AlertRule.ROLE_DOWN: Default(Severity.CRITICAL, 2),
    AlertRule.ROLE_RESTARTS: Default(Severity.WARNING, 0, 3, "starts of one role in an hour"),
    AlertRule.REFUSALS: Default(Severity.WARNING, 0, 50, "refusals of one caller in an hour"),
    AlertRule.AUDIT_TRAIL: Default(Severity.CRITICAL),
    AlertRule.AUDIT_REPOSITORY: Default(Severity.WARNING, 15),
}
