"""`hosts`: who has a data folder of its own, and taking out one that never comes back."""

from __future__ import annotations

import pytest

from dicom_node.clock import SystemClock
from dicom_node.store import audit, hosts
from dicom_node.store.hosts import HostState
from tests.unit.cli.command import Ended, dicom_node
from tests.unit.cli.conftest import Ran


def run(ran: Ran, *arguments: object) -> Ended:
    return dicom_node(*arguments, "--config", ran.config_file)


@pytest.fixture
def two_hosts(ran: Ran) -> None:
    """One that was heard of now, with a file set aside, and one that was not for years."""
    now = SystemClock().now()
    with ran.database.write() as session:
        hosts.register(session, "rx-1", "a" * 32, "rx-1:11180", now)
        state = HostState(waiting=2, aside=1, disk_text="9 MiB free", running=("keeper",))
        hosts.heard(session, "rx-1", now, now, state)
        hosts.register(session, "rx-2", "b" * 32, "rx-2:11180", ran.clock.now())


def test_without_hosts_that_is_said(ran: Ran) -> None:
    assert run(ran, "hosts", "list").out == "no host has a data folder of its own\n"


@pytest.mark.usefixtures("two_hosts")
def test_hosts_are_listed_and_one_that_is_away_is_in_the_status(ran: Ran) -> None:
    listed = run(ran, "hosts", "list")
    there, said, more, away = listed.lines[1:5]
    assert ("there" in there, "away" in away) == (True, True)
    assert "keeper" in said
    assert "9 MiB free" in said
    assert "not indexed yet: 2; set aside: 1" in more
    found = {line["host"]["name"]: line for line in run(ran, "hosts", "list", "--json").json}
    assert {name: line["away"] for name, line in found.items()} == {"rx-1": False, "rx-2": True}
    assert found["rx-1"]["holds"] == {"files": 0, "studies": 0}
    status = run(ran, "status")
    assert "host rx-2 does not answer since" in status.out
    assert "host rx-1" not in status.out
    assert [line["host"] for line in run(ran, "status", "--json").json["hosts_away"]] == ["rx-2"]


@pytest.mark.usefixtures("two_hosts")
def test_a_host_that_never_comes_back_is_forgotten_and_that_is_audited(ran: Ran) -> None:
    done = run(ran, "hosts", "forget", "rx-2", "--reason", "its disk is broken")
    assert (done.status, done.out) == (0, "forgotten: rx-2, with 0 files of 0 studies\n")
    assert "rx-2" not in run(ran, "hosts", "list").out
    with ran.database.read() as session:
        assert audit.is_recorded(session, "host_forgotten", host="rx-2")
    again = run(ran, "hosts", "forget", "rx-2", "--reason", "again")
    assert (again.status, "there is none" in again.err) == (1, True)
