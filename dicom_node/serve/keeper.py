"""The keeper of a host's own data folder: indexes what came, serves it, gives it up in time.

Whoever indexes, removes or reads again from the disk has to be where the files are. Where hosts
have a data folder each, one keeper runs on every host that receives images or runs pipelines; it
also says to the others, through the database, how far it has come and how the host does.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import select

from dicom_node.clock import Clock
from dicom_node.config import NodeConfig
from dicom_node.config.hosts import HostsSection
from dicom_node.errors import NodeError, StoreError
from dicom_node.hosts.server import FileServer
from dicom_node.serve.arrivals import Arrivals
from dicom_node.serve.disk import DiskWatch, disk_state
from dicom_node.serve.locks import holders
from dicom_node.serve.measure import FileWatch, roles_down
from dicom_node.serve.recurring import Timetable
from dicom_node.serve.retention import Retention
from dicom_node.store import hosts, overview
from dicom_node.store.database import Database
from dicom_node.store.files import write_durably
from dicom_node.store.hosts import HostState
from dicom_node.store.kept import KeptKind
from dicom_node.store.spool import Spool
from dicom_node.store.tables import Instance, Report
from dicom_node.studies.indexing import Indexer

_log = structlog.get_logger()

_PAGE: Final = 500


class Keeper:
    """Does on one host what has to be done beside its files."""

    def __init__(
        self,
        config: NodeConfig,
        section: HostsSection,
        database: Database,
        spool: Spool,
        clock: Clock,
    ) -> None:
        self._config = config
        self._name = section.name
        self._address = section.reached_at
        self._database = database
        self._spool = spool
        self._clock = clock
        self._indexer = Indexer(
            database,
            spool,
            clock,
            hold_changed_patient=config.studies.on_changed_patient == "hold",
            host=self._name,
        )
        self._arrivals = Arrivals(self._indexer, spool.arrivals)
        self._disk = DiskWatch(config, database, clock)
        self._retention = Retention(config, database, clock)
        self._files = FileWatch(config, database)
        self._folders = {KeptKind.INSTANCE: config.spool_dir, KeptKind.REPORT: config.reports_dir}
        self._server = FileServer(section, database, self._folders)
        self._receives = False
        self._missing = 0
        self._indexed_to: datetime | None = None
        self._timetable = Timetable(threads=4)

    def begin(self) -> None:
        """Say that this host is there, and take over what it had before it had a name.

        Raises:
            StoreError: Another data folder has this host's name.
        """
        self._register()
        adopted = sum(self._adopt(kind) for kind in KeptKind)
        if adopted:
            _log.info("files_adopted", host=self._name, files=adopted)

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop.

        Raises:
            NodeError: The files cannot be served.
        """
        every = self._timetable.every
        every(min(1.0, self._config.settle.quiet_seconds / 4), self.report)
        every(5, self._disk.watch_disk)
        every(30, self._retention.purge_when_low)
        every(self._retention.every, self._retention.purge_by_age)
        every(60, self.look_for_files)
        self._server.start()
        self._arrivals.start()
        self._timetable.start()
        _log.info("keeps_files", host=self._name, address=self._address)
        try:
            while not stop.wait(0.5):
                self._timetable.keep_time()
                if not self._server.alive:
                    raise NodeError("files", "they are not served any more", "the log says why")
        finally:
            self._timetable.stop()
            self._arrivals.stop()
            self._server.stop()

    def end(self) -> None:
        """End in order: a host that holds nothing and receives nothing is not waited for."""
        running = holders(self._config.node.data_dir)
        receives = any(name.startswith("receiver") for name in running)
        if not receives and not overview.spool_counts(self._config.spool_dir).waiting:
            with self._database.write() as session:
                left = hosts.leave(session, self._name)
            if left:
                _log.info("host_left", host=self._name)

    def report(self) -> None:
        """Index what waits, and say up to when all that came is in the index."""
        begun = self._clock.now()
        # while a study streams in its sender has the processors: what was said before holds
        if not self._indexer.in_burst or self._indexed_to is None:
            self._receives |= self._indexer.index_waiting() > 0
            if not self._indexer.held_up:
                self._indexed_to = begun
        state = self._state()
        with self._database.write(alone=False) as session:
            known = hosts.heard(session, self._name, self._clock.now(), self._indexed_to, state)
        if not known:
            # somebody forgot a host that lives: what it holds is there all the same
            self._register()
            _log.warning("host_registered_again", host=self._name)

    def look_for_files(self) -> None:
        """Look for some of the files that the index knows here."""
        self._missing = self._files.look()

    def _register(self) -> None:
        folder = _folder_id(self._config.node.data_dir)
        with self._database.write() as session:
            hosts.register(session, self._name, folder, self._address, self._clock.now())

    def _state(self) -> HostState:
        running = tuple(holders(self._config.node.data_dir))
        spool = overview.spool_counts(self._config.spool_dir)
        # one that has received keeps saying so: its receiver may be down for a moment
        self._receives |= bool(spool.waiting) or any(
            name.startswith("receiver") for name in running
        )
        disk = disk_state(self._config)
        return HostState(
            receives=self._receives,
            waiting=spool.waiting,
            aside=spool.aside,
            missing=self._missing,
            disk=str(disk.level),
            disk_text=disk.seen,
            roles_down=tuple(roles_down(self._config)),
            running=running,
        )

    def _adopt(self, kind: KeptKind) -> int:
        """Take over files of the time before hosts had names; returns their number."""
        number = 0
        for ids in self._nobodys(kind):
            with self._database.write() as session:
                hosts.adopt(session, self._name, kind, ids)
            number += len(ids)
        return number

    def _nobodys(self, kind: KeptKind) -> Iterator[list[int]]:
        """Yield the rows of files that are in our folder and that no host holds yet."""
        table = Instance if kind is KeptKind.INSTANCE else Report
        query = select(table.id, table.path).where(table.host.is_(None), table.purged_at.is_(None))
        last = 0
        while True:
            with self._database.read() as session:
                page = query.where(table.id > last).order_by(table.id).limit(_PAGE)
                rows = session.execute(page).all()
            if not rows:
                return
            last = rows[-1].id
            found = [row.id for row in rows if (self._folders[kind] / row.path).is_file()]
            if found:
                yield found


def _folder_id(data_dir: Path) -> str:
    """Return what tells a data folder from every other; made at its first use.

    Raises:
        StoreError: The file with it cannot be read, or is not ours.
    """
    file = data_dir / "host-id"
    if not file.exists():
        write_durably(file, uuid.uuid4().hex.encode())
    try:
        return uuid.UUID(file.read_text().strip()).hex
    except (OSError, ValueError):
        raise StoreError(
            str(file), "it does not hold what this data folder is known by", "restore it"
        ) from None
