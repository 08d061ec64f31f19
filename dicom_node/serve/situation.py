"""How the node does at this moment: what needs a person first, then all that goes through."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.config import NodeConfig
from dicom_node.model.alerts import AlertRule, Severity
from dicom_node.model.peers import Peer
from dicom_node.model.states import DeliveryState, JobState, StudyState
from dicom_node.serve.disk import DiskLevel, DiskState, disk_state
from dicom_node.serve.locks import holders
from dicom_node.serve.reloading import notices
from dicom_node.store import activity, fitness, overview
from dicom_node.store.activity import Activity, PeerActivity
from dicom_node.store.alerts import alerts_firing
from dicom_node.store.tables import Delivery, Job, Study
from dicom_node.store.watch_tables import PeerLook

_REFUSALS_OF: Final = timedelta(hours=24)
_SHOWN: Final = 5
_TOLD_BELOW: Final = frozenset(
    {
        AlertRule.STUDY_HELD,
        AlertRule.DISK_LOW,
        AlertRule.DISK_FULL,
        AlertRule.PIPELINE_SUSPECT,
        AlertRule.PIPELINE_DISABLED,
        AlertRule.FILES_ASIDE,
        AlertRule.ROLE_DOWN,
        AlertRule.REFUSALS,
    }
)
"""Alerts whose cause has an entry of its own among the needs."""
_ROLES: Final = ("receiver", "coordinator", "worker")


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


@dataclass(frozen=True, slots=True)
class PeerState:
    """One peer: what goes to it, what comes from it, and how it answered when asked last.

    Attributes:
        look_at: When it was asked whether it is there; None: never yet.
        trouble: Why it did not answer; None: it did, or was not asked.
        last_study_at: When its last image came.
    """

    name: str
    address: str
    may_send: bool
    gets_reports: bool
    sending: PeerActivity
    look_at: datetime | None
    trouble: str | None
    last_study_at: datetime | None


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk of the data folder, in MiB."""

    level: str
    free: int
    total: int
    seen: str


@dataclass(frozen=True, slots=True)
class Situation:
    """All of it.

    Attributes:
        roles: Process ids by role; a role that should run and does not has None.
        receiving, queued, running, waiting: Studies still coming, jobs that wait, jobs that run,
            objects that wait to be sent.
    """

    at: datetime
    needs: tuple[Need, ...]
    hour: Activity
    day: Activity
    peers: tuple[PeerState, ...]
    disk: Disk
    roles: dict[str, int | None]
    receiving: int
    queued: int
    running: int
    waiting: int


def situation(
    config: NodeConfig, session: Session, now: datetime, file: Path | None = None
) -> Situation:
    """Look at everything once.

    Args:
        file: The `node.yaml`, to tell whether it runs as it stands there.
    """
    state = disk_state(config)
    running = holders(config.node.data_dir)
    roles = _roles(running)
    return Situation(
        at=now,
        needs=(
            *_file_in_need(file, config, session),
            *_needs(config, session, now, state, roles),
        ),
        hour=activity.activity(session, now, activity.HOUR),
        day=activity.activity(session, now, activity.DAY),
        peers=tuple(_peers(config, session)),
        disk=_disk(config, state),
        roles=roles,
        receiving=_count(session, select(Study.id).where(Study.state == StudyState.RECEIVING)),
        queued=_count(session, select(Job.id).where(Job.state == JobState.QUEUED)),
        running=_count(session, select(Job.id).where(Job.state == JobState.RUNNING)),
        waiting=sum(
            _count(
                session,
                select(Delivery.id).where(
                    Delivery.peer == name, Delivery.state == DeliveryState.PENDING
                ),
            )
            for name in config.peers
        ),
    )


def _file_in_need(file: Path | None, config: NodeConfig, session: Session) -> Iterator[Need]:
    for text in notices(file, config, session) if file is not None else []:
        fix = "see Routes; the node goes on with what it had"
        yield Need("bad", "node.yaml and the node differ", text, fix, "/routes")


def _count(session: Session, query: object) -> int:
    return session.scalar(select(func.count()).select_from(query.subquery())) or 0  # type: ignore[attr-defined]


def _roles(running: dict[str, int]) -> dict[str, int | None]:
    found: dict[str, int | None] = {name: running.get(name) for name in running if name != "web"}
    for role in _ROLES:
        if not any(name.partition("-")[0] == role for name in running):
            found[role] = None
    return found


def _needs(
    config: NodeConfig,
    session: Session,
    now: datetime,
    disk: DiskState,
    roles: dict[str, int | None],
) -> Iterator[Need]:
    for role in _ROLES:
        if role in roles and roles[role] is None:
            yield Need(
                "bad", f"No {role} runs", "on this machine", "start the node; its log says why"
            )
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
    if spool.aside:
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
        more = _count(session, held) - _SHOWN
        if more:
            yield Need(
                "bad", f"{more} more studies are held", "", "look at them", "/studies?state=held"
            )
    failed = (
        select(Job.id, Job.pipeline, Job.error, Job.finished_at, Study.study_instance_uid)
        .join(Job.study)
        .where(Job.state == JobState.FAILED, Job.superseded_by.is_(None))
    )
    number = _count(session, failed)
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


def _peers(config: NodeConfig, session: Session) -> Iterator[PeerState]:
    receivers = {name for route in config.routes for name in route.send_to}
    for name, peer in config.peers.items():
        look = session.get(PeerLook, name)
        is_dicom = isinstance(peer, Peer)
        yield PeerState(
            name=name,
            address=f"{peer.ae_title} {peer.host}:{peer.port}"
            if isinstance(peer, Peer)
            else peer.url,
            may_send=is_dicom and (config.anyone_may_send or name in config.accept_from),
            gets_reports=name in receivers,
            sending=activity.peer_activity(session, name),
            look_at=look.at if look else None,
            trouble=look.trouble if look else None,
            last_study_at=(
                activity.last_study_from(session, peer.ae_title) if isinstance(peer, Peer) else None
            ),
        )


def _disk(config: NodeConfig, state: DiskState) -> Disk:
    folder = config.node.data_dir
    while not folder.exists():
        folder = folder.parent
    total = shutil.disk_usage(folder).total // (1024 * 1024)
    return Disk(str(state.level), state.free, total, state.seen)
