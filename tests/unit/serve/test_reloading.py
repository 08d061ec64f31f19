"""Whoever asks for a reload waits until the roles go by it, and is told which do not."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.config import load_config
from dicom_node.errors import ConfigError
from dicom_node.serve.live import load_text
from dicom_node.serve.locks import Hold, hold_numbered
from dicom_node.serve.reloading import Reloaded, ask_for_reload, record_refused, record_taken
from dicom_node.store.configurations import digest_of
from dicom_node.store.database import Database
from tests.factories import ManualClock
from tests.unit.serve.small_node import write_config


class Site:
    """A node whose supervisor is the test: it takes the file, or refuses it, when it is told."""

    def __init__(self, folder: Path, clock: ManualClock) -> None:
        self.file = write_config(folder, routes=[])
        self.loaded = load_text(self.file.read_text(), self.file)
        self.config = load_config(self.file)
        self.clock = clock
        self.told: list[int] = []
        self.refuses = False
        self.seconds = 0.0
        self.database = Database(self.config.database_url)
        self.database.migrate()

    def signalled(self, pid: int, number: int) -> None:
        assert number == signal.SIGHUP
        self.told.append(pid)
        if self.refuses:
            why = ConfigError(str(self.file), "it is wrong", "mend it")
            record_refused(self.config, "wrong", why, self.clock)
        else:
            record_taken(self.config, self.loaded, self.clock)

    def ask(self, after: Callable[[int], None]) -> Reloaded:
        """Ask, and call `after` with the number of each wait."""

        def wait(seconds: float) -> None:
            self.seconds += seconds
            after(round(self.seconds / 0.1))

        return ask_for_reload(
            self.config,
            self.database,
            patience=3,
            wait=wait,
            monotonic=lambda: self.seconds,
        )


@pytest.fixture
def site(tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Site:
    site = Site(tmp_path, clock)
    monkeypatch.setattr("dicom_node.serve.reloading.os.kill", site.signalled)
    return site


def runs(held: Hold, text: str) -> None:
    held.runs(digest_of(text))


def test_it_ends_when_the_last_role_goes_by_it(site: Site) -> None:
    folder = site.config.node.data_dir
    with hold_numbered(folder, "receiver") as one, hold_numbered(folder, "receiver") as two:
        runs(one, "before")
        runs(two, "before")

        def follow(waits: int) -> None:
            if waits in (4, 9):
                runs(one if waits == 4 else two, site.loaded.text)

        reloaded = site.ask(follow)
    assert site.told == [os.getpid()]
    assert reloaded.line is not None
    assert reloaded.line.taken
    assert (reloaded.late, round(site.seconds, 1)) == ((), 0.9)


def test_a_role_that_does_not_follow_is_named(site: Site) -> None:
    folder = site.config.node.data_dir
    with hold_numbered(folder, "receiver") as one, hold_numbered(folder, "receiver") as two:
        runs(one, site.loaded.text)
        runs(two, "before")
        reloaded = site.ask(lambda waits: None)
    assert reloaded.line is not None
    assert reloaded.late == ("receiver-1",)
    assert site.seconds >= 3


def test_a_role_that_says_nothing_of_it_is_not_waited_for(site: Site) -> None:
    with hold_numbered(site.config.node.data_dir, "worker"):
        reloaded = site.ask(lambda waits: None)
    assert (reloaded.late, site.seconds) == ((), 0)


def test_what_is_refused_is_waited_for_by_nobody(site: Site) -> None:
    site.refuses = True
    with hold_numbered(site.config.node.data_dir, "receiver") as held:
        runs(held, "before")
        reloaded = site.ask(lambda waits: None)
    assert reloaded.line is not None
    assert not reloaded.line.taken
    assert (reloaded.late, site.seconds) == ((), 0)
