"""Changing `node.yaml` from afar: checked, compared, tried on the last studies, written, undone."""

from __future__ import annotations

import difflib
import fcntl
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom_node.clock import Clock
from dicom_node.config import InvalidConfigError, NodeConfig, Problem, read_text
from dicom_node.errors import ConfigError, NodeError
from dicom_node.model.decisions import Decision
from dicom_node.routing import decide
from dicom_node.serve.live import Loaded, live_config, load_text
from dicom_node.serve.reloading import Reloaded, ask_for_reload
from dicom_node.store import configurations
from dicom_node.store.configurations import digest_of
from dicom_node.store.database import Database
from dicom_node.store.files import sync_folder
from dicom_node.store.routed import last_routed
from dicom_node.store.whole import facts_of

LONGEST: Final = 1_000_000
"""Characters; a longer text is none that a person wrote."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A text that is to become `node.yaml`.

    Attributes:
        base: SHA-256 of the file's text that it was made from.
        diff: From the file's text to this one (unified).
        problems: Its mistakes; none: it can be applied.
        needs_restart: Changed keys that are taken at the next start only.
    """

    text: str
    base: str
    diff: str
    problems: Sequence[Problem]
    needs_restart: Sequence[str]


@dataclass(frozen=True, slots=True)
class Changed:
    """A study on which other routes would decide otherwise; each side in words."""

    study_uid: str
    now: tuple[str, ...]
    then: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DryRun:
    """What other routes would have done with the last studies.

    Attributes:
        studies: How many were looked at.
    """

    studies: int
    changed: Sequence[Changed]


@dataclass(frozen=True, slots=True)
class Applied:
    """What was written; `number` is its place in the history."""

    number: int
    digest: str
    reloaded: Reloaded


class Configuring:
    """Proposes, tries, applies and takes back changes of one `node.yaml`.

    Args:
        config: What the node runs with.
    """

    def __init__(self, file: Path, config: NodeConfig, database: Database, clock: Clock) -> None:
        self._file = file
        self._config = config
        self._database = database
        self._clock = clock

    def current(self) -> tuple[str, str]:
        """Return the file's text and its SHA-256.

        Raises:
            ConfigError: The file cannot be read.
        """
        text = read_text(self._file)
        return text, digest_of(text)

    def propose(self, text: str) -> Proposal:
        """Check a text and compare it with the file.

        Raises:
            ConfigError: The file cannot be read.
        """
        before, base = self.current()
        problems: Sequence[Problem] = ()
        waiting: Sequence[str] = ()
        try:
            _, waiting = live_config(self._config, self._load(text).config)
        except InvalidConfigError as error:
            problems = error.problems
        except NodeError as error:
            problems = [Problem(self._file, 1, error.what, error.why, error.fix)]
        return Proposal(text, base, diff_of(before, text), problems, waiting)

    def dry_run(self, text: str, last: int = 500) -> DryRun:
        """Let the routes of a text decide about the last studies that routing has seen.

        Raises:
            ConfigError: The text has mistakes.
        """
        then = self._load(text)
        now = self._load(read_text(self._file))
        seen = 0
        changed: list[Changed] = []
        with self._database.read() as session:
            studies = last_routed(session, last)
        for study_id, uid in studies:
            with self._database.read() as session:
                facts = facts_of(session, study_id, uid, purged=True)
            seen += 1
            before, after = (
                in_words(
                    decide(
                        item.config.routes,
                        {name: bundle.spec for name, bundle in item.bundles.items()},
                        facts,
                        item.config.peers,
                    )
                )
                for item in (now, then)
            )
            if before != after:
                changed.append(Changed(uid, before, after))
        return DryRun(seen, changed)

    def apply(self, text: str, *, base: str, by: str, why: str) -> Applied:
        """Write a text, keep it in the history, and let the node take it.

        Args:
            base: SHA-256 of the text that the change was made from.
            by: Who does it.

        Raises:
            ConfigError: It has mistakes; the file has been changed meanwhile; no reason is given.
        """
        if not why.strip():
            raise ConfigError("the change", "no reason is given", "say in a few words why")
        self._load(text)
        with _alone(self._file):
            before, found = self.current()
            if found != base:
                raise ConfigError(
                    str(self._file),
                    "it was changed meanwhile, by somebody else or by hand",
                    "look at the difference to what it holds now, and apply that",
                )
            if text == before:
                raise ConfigError(str(self._file), "nothing is changed", "change something first")
            now = self._clock.now()
            with self._database.write() as session:
                # a person may have edited the file by hand: that text must not get lost
                configurations.keep_if_new(session, before, "by hand", "found in the file", now)
                number = configurations.add(session, text, by, why.strip(), now)
                _replace(self._file, text)
        reloaded = ask_for_reload(self._config, self._database)
        return Applied(number, digest_of(text), reloaded)

    def roll_back(self, number: int, *, base: str, by: str, why: str) -> Applied:
        """Write an earlier text again.

        Raises:
            ConfigError: There is no such text; else as `apply`.
        """
        return self.apply(self.earlier(number), base=base, by=by, why=why)

    def earlier(self, number: int) -> str:
        """Return a text of the history.

        Raises:
            ConfigError: There is no such text.
        """
        with self._database.read() as session:
            text = configurations.text_of(session, number)
        if text is None:
            raise ConfigError(
                f"configuration {number}",
                "the history has none of that number",
                "`dicom-node config history` lists them",
            )
        return text

    def _load(self, text: str) -> Loaded:
        if len(text) > LONGEST:
            raise ConfigError("the text", f"it is longer than {LONGEST} characters", "shorten it")
        return load_text(text, self._file)


def in_words(decision: Decision) -> tuple[str, ...]:
    """Return what a decision comes to: each pipeline with its images and peers."""
    said = []
    for job in decision.jobs:
        number = len(job.instances)
        images = f"{number} image{'' if number == 1 else 's'}"
        done = f"{job.pipeline} on {images}"
        if job.rejection is not None:
            done = f"{job.pipeline}: not evaluated"
        said.append(f"{done}, to {', '.join(job.peers)}")
    return tuple(sorted(said)) or ("nothing runs",)


def diff_of(before: str, after: str) -> str:
    """Return a unified diff; "" when nothing differs."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), "node.yaml now", "node.yaml then", lineterm=""
    )
    return "\n".join(lines)


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Keep two of us from changing the file at a time."""
    fd = os.open(file.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _replace(file: Path, text: str) -> None:
    """Write a file so that it is wholly the old one or wholly the new one; its mode stays.

    Raises:
        ConfigError: The disk or the folder's rights refuse.
    """
    target = file.resolve()
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        was = target.stat()
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as opened:
            opened.write(text.encode())
            os.fchmod(fd, was.st_mode & 0o7777)
            with suppress(PermissionError):
                # only root may give a file away; who else writes it owns it
                os.fchown(fd, was.st_uid, was.st_gid)
            opened.flush()
            os.fsync(fd)
        temporary.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise ConfigError(
            str(file),
            f"it cannot be written: {error.strerror}",
            "let the node's user write the file and its folder, or edit it by hand",
        ) from None
