"""Reload: the supervisor's side of it, and that of whoever asks for it."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from dicom_node.clock import Clock, SystemClock
from dicom_node.config import InvalidConfigError, NodeConfig, read_text
from dicom_node.errors import NodeError, StoreError
from dicom_node.logs import error_facts
from dicom_node.serve.live import (
    Loaded,
    configuration_folder,
    load_beside,
    load_text,
    running_file,
    started_file,
)
from dicom_node.serve.locks import digests_run, holders
from dicom_node.store import configurations
from dicom_node.store.configurations import ReloadLine, digest_of
from dicom_node.store.database import Database
from dicom_node.store.files import write_durably

_log = structlog.get_logger()


def this_host() -> str:
    """Return what this machine is called in the table of reloads."""
    return socket.gethostname()[:255]


class Reloader:
    """Keeps what the node runs with, and takes the file again when it is told to.

    What it keeps lies in the data folder, for the roles alone to read.
    """

    def __init__(self, file: Path, first: Loaded, clock: Clock | None = None) -> None:
        self._file = file
        self._first = first.config
        self._clock = clock or SystemClock()
        self.folder = configuration_folder(first.config.node.data_dir)

    def start(self, text: str) -> None:
        """Keep what the node starts with; earlier reloads say nothing any more.

        Raises:
            StoreError: The data folder cannot be written.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in (started_file, running_file):
            write_durably(file(self.folder), text.encode())
        try:
            database = Database(self._first.database_url)
            try:
                database.migrate()
                with database.write() as session:
                    configurations.forget_reloads(session, this_host())
                    configurations.keep_if_new(
                        session, text, "dicom-node", "found at the start", self._clock.now()
                    )
            finally:
                database.close()
        except (StoreError, SQLAlchemyError) as error:
            # each role needs the database as well, waits for it and says so
            _log.error("configuration_not_recorded", **error_facts(error))

    def reload(self) -> bool:
        """Take the file as it is now; False: it cannot be used, and nothing changes."""
        text: str | None = None
        try:
            text = read_text(self._file)
            loaded = load_beside(self._first, text, self._file)
            write_durably(running_file(self.folder), text.encode())
        except NodeError as error:
            record_refused(self._first, text, error, self._clock)
            return False
        record_taken(self._first, loaded, self._clock)
        return True


def load_for_role(file: Path, folder: Path | None) -> tuple[Loaded, Callable[[], Loaded]]:
    """Return what a role starts with, and what loads what it is to take later.

    Args:
        folder: Where the supervisor keeps what it has checked: a file that somebody breaks
            later does not keep a role from starting again. None: there is no supervisor.

    Raises:
        ConfigError: The file has mistakes.
        PipelineError: A pipeline's files are wrong.
    """
    if folder is not None:
        started = load_text(read_text(started_file(folder)), file).config

        def running() -> Loaded:
            return load_beside(started, read_text(running_file(folder)), file)

        return running(), running
    first = load_text(read_text(file), file)

    def again() -> Loaded:
        text: str | None = None
        try:
            text = read_text(file)
            loaded = load_beside(first.config, text, file)
        except NodeError as error:
            record_refused(first.config, text, error, SystemClock())
            raise
        record_taken(first.config, loaded, SystemClock())
        return loaded

    return first, again


def record_taken(config: NodeConfig, loaded: Loaded, clock: Clock) -> None:
    """Note in log, database and audit trail that a configuration was taken."""
    waiting = loaded.needs_restart
    _log.info("configuration_reloaded", needs_restart=list(waiting))
    _record(
        config,
        clock,
        taken=True,
        digest=digest_of(loaded.text),
        problems=[],
        needs_restart=list(waiting),
    )


def record_refused(config: NodeConfig, text: str | None, error: NodeError, clock: Clock) -> None:
    """Note in log, database and audit trail that the file cannot be used."""
    problems = problems_of(error)
    _log.error("configuration_refused", problems=problems, effect="the one before goes on")
    digest = None if text is None else digest_of(text)
    _record(config, clock, taken=False, digest=digest, problems=problems, needs_restart=[])


def problems_of(error: NodeError) -> list[str]:
    """Return each mistake of a configuration in a line."""
    if isinstance(error, InvalidConfigError):
        return [f"line {p.line}: {p.key}: {p.why} (fix: {p.fix})" for p in error.problems]
    return [f"{error.what}: {error.why} (fix: {error.fix})"]


def _record(
    config: NodeConfig,
    clock: Clock,
    *,
    taken: bool,
    digest: str | None,
    problems: list[str],
    needs_restart: list[str],
) -> None:
    try:
        database = Database(config.database_url)
        try:
            with database.write() as session:
                configurations.record_reload(
                    session,
                    clock.now(),
                    this_host(),
                    taken=taken,
                    digest=digest,
                    problems=problems,
                    needs_restart=needs_restart,
                )
        finally:
            database.close()
    except (StoreError, SQLAlchemyError) as error:
        _log.error("reload_not_recorded", **error_facts(error))


@dataclass(frozen=True, slots=True)
class Reloaded:
    """How a reload that was asked for went.

    Attributes:
        running: False: nothing runs here, and the file is taken at the next start.
        line: What the node said; None: it has not said anything in time.
        late: Roles that still went by the configuration before when we stopped waiting.
    """

    running: bool
    line: ReloadLine | None = None
    late: tuple[str, ...] = ()


def ask_for_reload(
    config: NodeConfig,
    database: Database,
    *,
    patience: float = 30,
    wait: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> Reloaded:
    """Tell the node of this machine to take its file again, and wait until it goes by it.

    Who calls or sends after that meets the new rules; the roles follow the supervisor one by one.

    Raises:
        StoreError: We may not signal it.
    """
    before = _last(database)
    running = holders(config.node.data_dir)
    told = [running["supervisor"]] if "supervisor" in running else list(running.values())
    if not told:
        return Reloaded(running=False)
    for pid in set(told) - {0}:
        try:
            os.kill(pid, signal.SIGHUP)
        except ProcessLookupError:
            continue  # it has just ended: its successor reads the file anew
        except PermissionError:
            raise StoreError(
                f"process {pid}",
                "it belongs to another user",
                "run the command as the user that the node runs as",
            ) from None
    by = monotonic() + patience
    reloaded = Reloaded(running=True)
    while monotonic() < by:
        line = _last(database)
        if line is not None and (before is None or line.id > before.id):
            late = _late(config.node.data_dir, line) if line.taken else ()
            reloaded = Reloaded(running=True, line=line, late=late)
            if not late:
                break
        wait(0.1)
    return reloaded


def _late(data_dir: Path, line: ReloadLine) -> tuple[str, ...]:
    return tuple(name for name, digest in digests_run(data_dir).items() if digest != line.digest)


def _last(database: Database) -> ReloadLine | None:
    with database.read() as session:
        return configurations.last_reload(session, this_host())


def notices(file: Path, config: NodeConfig, session: Session) -> list[str]:
    """Return what a person has to know about `node.yaml`: not taken, wrong, or waiting."""
    running = holders(config.node.data_dir)
    if not running:
        return []
    last = configurations.last_reload(session, this_host())
    said = []
    if "supervisor" in running:
        said += _not_taken(file, config)
    elif last is not None and not last.taken:
        said.append(f"{_WRONG}: {'; '.join(last.problems[:1])}")
    if last is not None and last.taken and last.needs_restart:
        said.append(f"restart the node to take {', '.join(last.needs_restart)} of {file.name}")
    return said


_WRONG: Final = "node.yaml has mistakes; the node goes on with what it had"


def _not_taken(file: Path, config: NodeConfig) -> list[str]:
    kept = running_file(configuration_folder(config.node.data_dir))
    try:
        now = kept.read_bytes().decode()
    except OSError:
        return []  # of another user, or just being written
    try:
        text = read_text(file)
        if text == now:
            return []
        load_text(text, file)
    except NodeError as error:
        return [f"{_WRONG}: {problems_of(error)[0]}"]
    return [f"{file.name} was changed and is not taken yet: `dicom-node reload`"]
