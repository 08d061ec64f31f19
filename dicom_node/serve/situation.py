"""How the node does at this moment: what needs a person first, then all that goes through."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.config import NodeConfig
from dicom_node.model.peers import Peer
from dicom_node.model.states import DeliveryState, JobState, StudyState
from dicom_node.serve.disk import DiskState, disk_state
from dicom_node.serve.locks import holders
from dicom_node.serve.needs import Need, count, file_in_need, needs
from dicom_node.store import activity, hosts
from dicom_node.store.activity import Activity, PeerActivity
from dicom_node.store.tables import Delivery, Job, Study
from dicom_node.store.watch_tables import PeerLook

_ROLES: Final = ("receiver", "coordinator", "worker")


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
    roles = _roles(running, hosts.running(session, now) if config.hosts is not None else ())
    return Situation(
        at=now,
        needs=(
            *file_in_need(file, config, session),
            *needs(config, session, now, state, roles),
        ),
        hour=activity.activity(session, now, activity.HOUR),
        day=activity.activity(session, now, activity.DAY),
        peers=tuple(_peers(config, session)),
        disk=_disk(config, state),
        roles=roles,
        receiving=count(session, select(Study.id).where(Study.state == StudyState.RECEIVING)),
        queued=count(session, select(Job.id).where(Job.state == JobState.QUEUED)),
        running=count(session, select(Job.id).where(Job.state == JobState.RUNNING)),
        waiting=sum(
            count(
                session,
                select(Delivery.id).where(
                    Delivery.peer == name, Delivery.state == DeliveryState.PENDING
                ),
            )
            for name in config.peers
        ),
    )


def _roles(running: dict[str, int], elsewhere: Iterable[str]) -> dict[str, int | None]:
    found: dict[str, int | None] = {name: running.get(name) for name in running if name != "web"}
    for role in _ROLES:
        if not any(name.partition("-")[0] == role for name in (*running, *elsewhere)):
            found[role] = None
    return found


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
