"""The rules: what is wrong now, in words for the person who is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from dicom_node.alerts.seen import Seen
from dicom_node.config import NodeConfig
from dicom_node.model.alerts import AlertRule
from dicom_node.store import fitness, hosts, looks, trouble
from dicom_node.store.watch_tables import REPOSITORY, AuditMark

_HOUR: Final = timedelta(hours=1)
_FEWEST_FAILURES: Final = 3
"""One job of two that fails is no rate."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong now; never holds patient data."""

    rule: AlertRule
    subject: str
    text: str
    fix: str


@dataclass(frozen=True, slots=True)
class Look:
    """All that the rules may look at."""

    session: Session
    config: NodeConfig
    seen: Seen
    now: datetime

    def limit(self, rule: AlertRule) -> float:
        return self.config.alerts.limit(rule)

    def before(self, rule: AlertRule) -> datetime:
        """The time that a rule's limit in minutes leads back to."""
        return self.now - timedelta(minutes=self.limit(rule))


def conditions(session: Session, config: NodeConfig, seen: Seen, now: datetime) -> list[Condition]:
    """Return what is wrong now by the rules that are enabled."""
    look = Look(session, config, seen, now)
    return [
        Condition(rule, subject[:64], text, fix)
        for rule, ask in _RULES.items()
        if config.alerts.enabled(rule)
        for subject, text, fix in ask(look)
    ]


Found = Iterator[tuple[str, str, str]]
"""Subject, text and what to do."""


def _study_stuck(look: Look) -> Found:
    before = look.before(AlertRule.STUDY_STUCK)
    settle = look.config.settle
    wait = timedelta(seconds=settle.quiet_seconds + settle.longest_wait_seconds)
    found = trouble.stuck_studies(look.session, before - wait, before)
    if found:
        yield (
            "",
            f"{_studies(found.number)} not settled or not routed; the oldest is {found.oldest}, "
            f"without progress since {_time(found.since)}.",
            "see whether the coordinator runs (`dicom-node status`), and its log",
        )


def _study_held(look: Look) -> Found:
    found = trouble.held_studies(look.session)
    if found:
        yield (
            "",
            f"{_studies(found.number)} waiting for a person; the oldest is {found.oldest}, "
            f"since {_time(found.since)}.",
            "`dicom-node held` says why; then `dicom-node release` or `dicom-node discard`",
        )


def _peer_down(look: Look) -> Found:
    receivers = _receivers(look)
    for name, line in looks.peer_looks(look.session).items():
        if name in receivers and line.trouble is not None:
            yield (
                name,
                f"Peer {name} does not answer since {_time(line.since)}.",
                "`dicom-node check` says why; the reports wait and are sent when it is back",
            )


def _receivers(look: Look) -> set[str]:
    return {name for route in look.config.routes for name in route.send_to}


def _delivery_late(look: Look) -> Found:
    for item in trouble.undelivered(look.session, look.before(AlertRule.DELIVERY_LATE)):
        parts = []
        if item.late:
            minutes = look.limit(AlertRule.DELIVERY_LATE)
            parts.append(f"{_objects(item.late)} waiting for more than {minutes:g} minutes")
        if item.given_up:
            parts.append(f"{_objects(item.given_up)} given up")
        yield (
            item.peer,
            f"Peer {item.peer}: {', '.join(parts)}.",
            f"mend the peer, then `dicom-node retry --peer {item.peer}`",
        )


def _queue_age(look: Look) -> Found:
    found = trouble.old_jobs(look.session, look.before(AlertRule.QUEUE_AGE))
    if found:
        yield (
            "",
            f"{found.number} jobs wait for a worker; {found.oldest} since {_time(found.since)}.",
            "see whether the workers run and keep up; `inference.workers` may be raised",
        )


def _failure_rate(look: Look) -> Found:
    limit = look.limit(AlertRule.FAILURE_RATE)
    for pipeline, (number, failed) in trouble.ended_jobs(look.session, look.now - _HOUR).items():
        percent = 100 * failed / number
        if failed >= _FEWEST_FAILURES and percent >= limit:
            yield (
                pipeline,
                f"{failed} of {number} jobs of {pipeline} failed in the last hour "
                f"({percent:.0f} percent).",
                "`dicom-node jobs --state failed` says why",
            )


def _disk_low(look: Look) -> Found:
    if look.seen.disk == "low":
        yield "", f"The disk runs low: {look.seen.disk_text}.", "free space, see `retention`"


def _disk_full(look: Look) -> Found:
    if look.seen.disk == "full":
        yield (
            "",
            f"The disk is full, and images are refused: {look.seen.disk_text}.",
            "give the data folder more space; `dicom-node purge --dry-run` says what may go",
        )


def _certificate(look: Look) -> Found:
    days = timedelta(days=look.limit(AlertRule.CERTIFICATE))
    ends = dict(look.seen.certificates)
    # no other peer is asked again and again: what was seen of it once stays as it was
    asked = {name for name in _receivers(look) if look.config.peers[name].tls is not None}
    for name, line in looks.peer_looks(look.session).items():
        if name in asked and line.certificate_ends_at is not None:
            ends[f"of peer {name}"] = line.certificate_ends_at
    for name, end in sorted(ends.items()):
        if end - look.now < days:
            word = "has ended on" if end <= look.now else "ends on"
            yield (
                name,
                f"The certificate {name} {word} {end.date().isoformat()}.",
                _renewal(name),
            )


def _renewal(name: str) -> str:
    if name.startswith("of peer "):
        return "have its people renew it"
    if name in ("of hosts", "of web.tls"):  # what serves with it reads it at its start
        return "renew it, then restart the node"
    return "renew it; the file is taken up without a restart"


def _clock(look: Look) -> Found:
    limit = look.limit(AlertRule.CLOCK)
    if abs(look.seen.clock_jump) > limit:
        yield (
            "set",
            f"The clock was set by {look.seen.clock_jump:+.0f} seconds while the node ran.",
            "see whether the machine's time is kept by NTP or PTP",
        )
    newest = trouble.newest_event(look.session)
    if newest is not None and (newest - look.now).total_seconds() > limit:
        yield (
            "behind",
            f"The clock is behind: the audit trail goes up to {_time(newest)}, which is to come.",
            "set the machine's clock; times of reports and of the audit trail depend on it",
        )


def _pipeline_suspect(look: Look) -> Found:
    for name in trouble.suspect_pipelines(look.session):
        yield (
            name,
            f"Pipeline {name} took down a worker, and has finished no job since.",
            "`dicom-node status` says why; the log names the place",
        )


def _pipeline_disabled(look: Look) -> Found:
    for name in fitness.unfit(look.session):
        yield (
            name,
            f"Pipeline {name} did not pass its self-test: its jobs wait.",
            f"`dicom-node pipelines selftest {name}` says what differs",
        )


def _files_lost(look: Look) -> Found:
    if look.seen.files_missing:
        yield (
            "",
            f"{look.seen.files_missing} received files are gone from the disk, "
            "and not by retention.",
            "see who else writes to the data folder, and the disk's health; send them again",
        )


def _files_aside(look: Look) -> Found:
    number = trouble.events_since(look.session, "file_set_aside", look.now - _HOUR)
    if number:
        yield (
            "",
            f"{number} received files could not be indexed in the last hour.",
            "look at `set aside` in `dicom-node status`",
        )
    number = trouble.events_since(look.session, "instance_conflict", look.now - _HOUR)
    if number:
        yield (
            "other content",
            f"In the last hour {number} images came again with other content under a known SOP "
            "Instance UID: the first content stays, the other was set aside.",
            "if the first is wrong, send the study under new UIDs; then move them away "
            "(`set aside` in `dicom-node status`)",
        )


def _host_down(look: Look) -> Found:
    for line in hosts.away(look.session, look.now):
        yield (
            line.host,
            f"Host {line.host} does not answer since {_time(line.since)}: {line.text}.",
            "start it, or see to its network; if its disk is lost, `dicom-node hosts forget "
            f"{line.host}` and send those studies again",
        )


def _role_down(look: Look) -> Found:
    for name in look.seen.roles_down:
        yield name, f"The {name} does not run.", "the log says why: `role_failed`, `role_died`"


def _role_restarts(look: Look) -> Found:
    limit = look.limit(AlertRule.ROLE_RESTARTS)
    for child, number in sorted(trouble.starts_since(look.session, look.now - _HOUR).items()):
        if number > limit:
            yield (
                child,
                f"The {child} was started {number} times in the last hour.",
                "the log says why: `role_died`, `role_crashed`; "
                "see `dicom-node jobs --state failed`",
            )


def _refusals(look: Look) -> Found:
    found = trouble.refused_since(look.session, look.now - _HOUR)
    if found and found.times > look.limit(AlertRule.REFUSALS):
        yield (
            "",
            f"{found.times} refusals in the last hour, {found.caller_times} of them of "
            f"{found.caller}.",
            "`dicom-node status` says why; add the peer, or find out who calls",
        )


def _audit_trail(look: Look) -> Found:
    if look.seen.audit_broken:
        yield "", look.seen.audit_broken, "`dicom-node audit verify` tells the rest"


def _audit_repository(look: Look) -> Found:
    mark = look.session.get(AuditMark, REPOSITORY)
    if look.config.audit is not None and mark is not None and mark.trouble is not None:
        yield (
            "",
            f"The audit repository does not take our messages: {mark.trouble}.",
            "see to the repository; the messages wait and are sent when it is back",
        )


def _time(at: datetime) -> str:
    return at.isoformat(timespec="seconds")


def _studies(number: int) -> str:
    return "1 study is" if number == 1 else f"{number} studies are"


def _objects(number: int) -> str:
    return "1 object is" if number == 1 else f"{number} objects are"


_RULES: Final[dict[AlertRule, Callable[[Look], Found]]] = {
    AlertRule.STUDY_STUCK: _study_stuck,
    AlertRule.STUDY_HELD: _study_held,
    AlertRule.PEER_DOWN: _peer_down,
    AlertRule.DELIVERY_LATE: _delivery_late,
    AlertRule.QUEUE_AGE: _queue_age,
    AlertRule.FAILURE_RATE: _failure_rate,
    AlertRule.DISK_LOW: _disk_low,
    AlertRule.DISK_FULL: _disk_full,
    AlertRule.CERTIFICATE: _certificate,
    AlertRule.CLOCK: _clock,
    AlertRule.PIPELINE_SUSPECT: _pipeline_suspect,
    AlertRule.PIPELINE_DISABLED: _pipeline_disabled,
    AlertRule.FILES_LOST: _files_lost,
    AlertRule.FILES_ASIDE: _files_aside,
    AlertRule.HOST_DOWN: _host_down,
    AlertRule.ROLE_DOWN: _role_down,
    AlertRule.ROLE_RESTARTS: _role_restarts,
    AlertRule.REFUSALS: _refusals,
    AlertRule.AUDIT_TRAIL: _audit_trail,
    AlertRule.AUDIT_REPOSITORY: _audit_repository,
}
