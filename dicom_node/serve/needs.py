"""What waits for a person, the gravest causes first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.config import NodeConfig
from dicom_node.model.alerts import AlertRule, Severity
from dicom_node.model.states import JobState
from dicom_node.serve.away import away
from dicom_node.serve.disk import DiskLevel, DiskState
from dicom_node.serve.reloading import notices
from dicom_node.store import activity, fitness, hosts, overview
from dicom_node.store.alerts import alerts_firing
from dicom_node.store.tables import Job, Study
from dicom_node.store.watch_tables import PeerLook

_REFUSALS_OF: Final = timedelta(hours=24)
_SHOWN: Final = 5
_TOLD_BELOW: Final = frozenset(
    {
        AlertRule.STUDY_HELD,
        AlertRule.PEER_DOWN,
        AlertRule.DISK_LOW,
        AlertRule.DISK_FULL,
        AlertRule.PIPELINE_SUSPECT,
        AlertRule.PIPELINE_DISABLED,
        AlertRule.FILES_ASIDE,
        AlertRule.HOST_DOWN,
        AlertRule.ROLE_DOWN,
        AlertRule.REFUSALS,
    }
)
"""Alerts whose cause has an entry of its own among the needs."""


@dataclass(frozen=True, slots=True)
class Need:
    """Something that waits for a person.

    Attributes:
        tone: "bad" or "warn".
        fix: What to do, in one sentence.
        link: Page where it is done; "" when it is not done here.
        since: Since when; None: not known.
    """

    tone: str
    title: str
    text: str
    fix: str
    link: str = ""
    since: datetime | None = None


def file_in_need(file: Path | None, config: NodeConfig, session: Session) -> Iterator[Need]:
    """Tell what is wrong with the `node.yaml`; nothing when there is none to look at."""
    for text in notices(file, config, session) if file is not None else []:
        fix = "see Routes; the node goes on with what it had"
        yield Need("bad", "node.yaml and the node differ", text, fix, "/routes")


def needs(
    config: NodeConfig,
    session: Session,
    now: datetime,
    disk: DiskState,
    roles: dict[str, int | None],
) -> Iterator[Need]:
    """Tell what waits for a person.

    Args:
        roles: Process ids by role; None for one that should run and does not.
    """
    for role, process in roles.items():
        if process is None:
            yield Need(
                "bad", f"No {role} runs", "on this machine", "start the node; its log says why"
            )
    for note in away(config):
        yield Need("bad", f"{note.what} is away", note.why, note.fix, "", note.since)
    if disk.level is not DiskLevel.OK:
        tone = "bad" if disk.level is DiskLevel.FULL else "warn"
        title = "The disk is full" if disk.level is DiskLevel.FULL else "The disk gets full"
        yield Need(tone, title, disk.seen, "free space, or shorten `retention` in node.yaml")
    for alert in alerts_firing(session):
        if alert.rule in _TOLD_BELOW:
            continue
        tone = "bad" if alert.severity == Severity.CRITICAL else "warn"
        yield Need(
            tone, f"Alert: {alert.rule.replace('_', ' ')}", alert.text, alert.fix, "", alert.since
        )
    yield from _hosts_in_need(session, now)
    yield from _studies_in_need(session)
    for name in config.peers:
        yield from _peer_in_need(session, name)
    for name, why in fitness.unfit(session).items():
        yield Need(
            "bad",
            f"{name} is disabled: its self-test differs",
            why,
            f"see docs/operate.md, then `dicom-node pipelines selftest {name}`",
            f"/pipelines/{name}",
        )
    for line in overview.suspects(session):
        yield Need(
            "warn",
            f"{line.pipeline} took down its worker",
            line.why,
            "look at its failed jobs; it is trusted again after one that is done",
            "/studies?state=failed",
            line.since,
        )
    spool = overview.spool_counts(config.spool_dir)
    if spool.aside and config.hosts is None:
        yield Need(
            "warn",
            f"{spool.aside} file{'' if spool.aside == 1 else 's'} set aside",
            f"in {config.spool_dir / 'aside'}: damaged, or other content under a known UID",
            "look at them, then move them away",
        )
    for refused in overview.refusals(session, now - _REFUSALS_OF, _SHOWN):
        who = " ".join(filter(None, (refused.calling_ae, refused.address))) or "A caller"
        times = "once" if refused.times == 1 else f"{refused.times} times"
        yield Need(
            "warn",
            f"{who} was refused {times} today",
            refused.reason,
            "if it should be let in, add it in Peers; else correct what it calls",
            "/peers",
            refused.last_at,
        )


def _hosts_in_need(session: Session, now: datetime) -> Iterator[Need]:
    fix = "start it, or see to its network; what waits goes on by itself"
    for line in hosts.away(session, now):
        yield Need("bad", f"Host {line.host} does not answer", line.text, fix, "", line.since)
    for host in hosts.lines(session):
        number = host.state.aside
        if number:
            yield Need(
                "warn",
                f"{number} file{'' if number == 1 else 's'} set aside on host {host.name}",
                "in its spool's `aside`: damaged, or other content under a known UID",
                "look at them, then move them away",
            )


def _studies_in_need(session: Session) -> Iterator[Need]:
    held = select(Study.study_instance_uid, Study.held_text, Study.held_at).where(
        Study.held_at.is_not(None)
    )
    rows = session.execute(held.order_by(Study.held_at).limit(_SHOWN)).all()
    for row in rows:
        yield Need(
            "bad",
            "A study is held",
            row.held_text or "",
            "release or discard it",
            f"/studies/{row.study_instance_uid}",
            row.held_at,
        )
    if len(rows) == _SHOWN:
        more = count(session, held) - _SHOWN
        if more:
            yield Need(
                "bad", f"{more} more studies are held", "", "look at them", "/studies?state=held"
            )
    failed = (
        select(Job.id, Job.pipeline, Job.error, Job.finished_at, Study.study_instance_uid)
        .join(Job.study)
        .where(Job.state == JobState.FAILED, Job.superseded_by.is_(None))
    )
    number = count(session, failed)
    if number:
        last = session.execute(failed.order_by(Job.id.desc()).limit(1)).one()
        error = last.error or {}
        why = f"{last.pipeline}: {error.get('why', '')}".rstrip(": ")
        one = number == 1
        yield Need(
            "bad",
            "A job has failed" if one else f"{number} jobs have failed",
            why if one else f"the last one: {why}",
            str(error.get("fix") or "mend the cause, then run it again"),
            f"/studies/{last.study_instance_uid}" if one else "/studies?state=failed",
            last.finished_at,
        )


def _peer_in_need(session: Session, name: str) -> Iterator[Need]:
    known = activity.peer_activity(session, name)
    if known.given_up:
        number = known.given_up
        yield Need(
            "bad",
            f"{name} did not take {number} object{'' if number == 1 else 's'}",
            known.answer or "",
            "mend the cause, then send them again",
            f"/studies?state=undelivered&to={name}",
        )
    look = session.get(PeerLook, name)
    if look is not None and look.trouble:
        yield Need(
            "bad" if known.waiting else "warn",
            f"{name} does not answer",
            look.trouble,
            "is it running, and is its address right in node.yaml?",
            "",
            look.since,
        )


def count(session: Session, query: object) -> int:
    """Return how many rows a query has."""
    return session.scalar(select(func.count()).select_from(query.subquery())) or 0  # type: ignore[attr-defined]
