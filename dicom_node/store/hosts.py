"""The hosts that each have a data folder: who they are, when they were heard of, what they hold.

A host says again and again up to when all that it acknowledged is in the index. Nobody else can
know it: an image that lies in the inbox of a host that has died is in no table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final

from pydantic import TypeAdapter
from sqlalchemy import exists, func, select, update
from sqlalchemy.orm import Session

from dicom_node.errors import StoreError
from dicom_node.model.states import JobState
from dicom_node.store import audit
from dicom_node.store.host_tables import Host
from dicom_node.store.kept import KeptKind
from dicom_node.store.tables import Instance, Job, Report, Study

AWAY_AFTER: Final = timedelta(seconds=30)
"""A host that was not heard of for so long does not answer."""
_IN_FLIGHT: Final = timedelta(seconds=60)
"""A study that begins so long after a host was heard of last has no images there."""


@dataclass(frozen=True, slots=True)
class HostState:
    """What was seen at a host.

    Attributes:
        receives: Images come in there, or wait there for the index.
        waiting, aside: Files of the spool that wait for the index, and that cannot be indexed.
        missing: Files that the index knows there, and the disk does not have.
        disk: "ok", "low" or "full"; `disk_text` says how much is free.
        roles_down: Processes that should run there, and do not.
        running: Processes that run there.
    """

    receives: bool = False
    waiting: int = 0
    aside: int = 0
    missing: int = 0
    disk: str = "ok"
    disk_text: str = ""
    roles_down: tuple[str, ...] = ()
    running: tuple[str, ...] = ()


_STATE: Final = TypeAdapter(HostState)


@dataclass(frozen=True, slots=True)
class HostLine:
    """One host."""

    name: str
    address: str
    heard_at: datetime
    indexed_to: datetime
    state: HostState

    def is_away(self, now: datetime) -> bool:
        return now - self.heard_at > AWAY_AFTER


@dataclass(frozen=True, slots=True)
class Held:
    """What a host holds: files, and of how many studies."""

    files: int
    studies: int


@dataclass(frozen=True, slots=True)
class AwayLine:
    """A host that does not answer, and what waits for it."""

    host: str
    since: datetime
    text: str


def register(session: Session, name: str, folder: str, address: str, now: datetime) -> None:
    """Say that a host is there.

    Raises:
        StoreError: Another data folder has this name: one of the two would miss its files.
    """
    row = session.get(Host, name)
    if row is None:
        # nothing is known yet of what its spool holds
        begun = datetime.fromtimestamp(0, tz=now.tzinfo)
        state = asdict(HostState(receives=True))
        row = Host(name=name, folder=folder, indexed_to=begun, state=state)
        session.add(row)
        audit.record(session, now, "host_began", host=name, address=address)
    elif row.folder != folder:
        raise StoreError(
            f"host {name}",
            "another data folder has been known under this name",
            "give each host a name of its own (`hosts.this_host`); if that folder is lost, "
            f"`dicom-node hosts forget {name}`",
        )
    row.address = address
    row.heard_at = now


def heard(
    session: Session, name: str, now: datetime, indexed_to: datetime | None, state: HostState
) -> bool:
    """A host says what is so there; False: it was forgotten meanwhile.

    Args:
        indexed_to: None: as it said before.
    """
    row = session.get(Host, name)
    if row is None:
        return False
    row.heard_at, row.indexed_to, row.state = now, indexed_to or row.indexed_to, asdict(state)
    return True


def lines(session: Session) -> list[HostLine]:
    """Return all hosts, by name."""
    return [_line(row) for row in session.scalars(select(Host).order_by(Host.name))]


def away(session: Session, now: datetime) -> list[AwayLine]:
    """Return the hosts that do not answer."""
    found = []
    for host in lines(session):
        if host.is_away(now):
            held = held_by(session, host.name)
            jobs = waiting_for(session, host.name)
            text = (
                f"it holds files of {held.studies} {'study' if held.studies == 1 else 'studies'}; "
                f"{jobs} {'job waits' if jobs == 1 else 'jobs wait'} for it"
            )
            found.append(AwayLine(host.name, host.heard_at, text))
    return found


def running(session: Session, now: datetime) -> list[str]:
    """Return the processes that run on any host that is there."""
    return [name for host in lines(session) if not host.is_away(now) for name in host.state.running]


def address_of(session: Session, name: str) -> str | None:
    """Return HOST:PORT of a host; None: nobody knows it (any more)."""
    return session.scalar(select(Host.address).where(Host.name == name))


def held_by(session: Session, name: str) -> Held:
    """Return what a host holds."""
    images = select(func.count(), func.count(Instance.study_id.distinct())).where(
        Instance.host == name, Instance.purged_at.is_(None)
    )
    files, studies = session.execute(images).one()
    made = select(func.count()).where(Report.host == name, Report.purged_at.is_(None))
    return Held(files + (session.scalar(made) or 0), studies)


def forget(session: Session, name: str, now: datetime, by: str = "", why: str = "") -> Held:
    """Take a host out for good; returns what was there, which is lost if it was not sent again.

    Raises:
        StoreError: There is no such host.
    """
    row = session.get(Host, name)
    if row is None:
        raise StoreError(f"host {name}", "there is none", "see `dicom-node hosts list`")
    held = held_by(session, name)
    session.delete(row)
    audit.record(
        session, now, "host_forgotten", host=name, by=by or None, reason=why or None, **asdict(held)
    )
    return held


def waiting_for(session: Session, name: str) -> int:
    """Return how many jobs wait because a host does not answer."""
    query = select(func.count()).where(
        Job.state == JobState.QUEUED, Job.error["what"].as_string() == f"host {name}"
    )
    return session.scalar(query) or 0


def leave(session: Session, name: str) -> bool:
    """A host ends in order and holds nothing: it is not waited for; False: it is."""
    row = session.get(Host, name)
    if row is None or any(
        session.scalar(select(exists().where(table.host == name))) for table in (Instance, Report)
    ):
        return False
    session.delete(row)
    return True


def unindexed(
    hosts: Sequence[HostLine], study: Study, now: datetime, quiet: timedelta
) -> str | None:
    """Return a host that may hold images of a quiet study that are not in the index; None: none.

    While a host is away, only studies wait for it that may have begun before it was gone.
    """
    needed = study.last_instance_at + quiet
    for host in hosts:
        if not host.state.receives or host.indexed_to >= needed:
            continue
        if host.is_away(now) and study.first_instance_at > host.heard_at + _IN_FLIGHT:
            continue
        return host.name
    return None


def adopt(session: Session, name: str, kind: KeptKind, ids: Sequence[int]) -> None:
    """Files of the time when all hosts shared one data folder are with this host."""
    table = Instance if kind is KeptKind.INSTANCE else Report
    statement = update(table).where(table.id.in_(ids), table.host.is_(None)).values(host=name)
    session.execute(statement.execution_options(synchronize_session=False))


def _line(row: Host) -> HostLine:
    # a newer version may say more
    state = _STATE.validate_python(row.state)
    return HostLine(row.name, row.address, row.heard_at, row.indexed_to, state)
