"""The actors of one pipeline: how many there are, and what becomes of those who wait for one."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from dicom_node.config.ray import RaySection
from dicom_node.errors import PipelineError
from dicom_node.serve.failures import LostError
from dicom_node.serve.remote import pool as pool_module
from dicom_node.serve.remote.pool import Actor, Pool
from dicom_node.serve.remote.wire import Failure, Ready
from dicom_node.store.losses import Loss

READY = Ready("node", "cpu", None)


@dataclass
class Launcher:
    """Actors that are ready when the test says so."""

    answers: dict[int, Ready | Failure | LostError] = field(default_factory=dict)
    started: int = 0
    killed: list[int] = field(default_factory=list)
    dead: set[int] = field(default_factory=set)
    at_once: Ready | Failure | LostError | None = READY

    def start(self) -> tuple[Any, Any]:
        self.started += 1
        if self.at_once is not None:
            self.answers[self.started] = self.at_once
        return self.started, self.started

    def told(self, loading: Any) -> Ready | Failure | None:
        answer = self.answers.get(loading)
        if isinstance(answer, LostError):
            raise answer
        return answer

    def kill(self, handle: Any) -> None:
        self.killed.append(handle)

    def lives(self, actor: Actor) -> bool:
        return actor.handle not in self.dead


@pytest.fixture
def launcher() -> Launcher:
    return Launcher()


def pool(launcher: Launcher, **limits: Any) -> Pool:
    settings = {"min_actors": 0, "max_actors": 3, "prefetch": 1, "idle_seconds": 60, **limits}
    return Pool("tiny", RaySection(**settings), launcher)


def tended(made: Pool, times: int = 2) -> Pool:
    for _ in range(times):
        made.tend()
    return made


def slowly(made: Pool) -> None:
    for _ in range(20):
        made.tend()
        threading.Event().wait(0.05)


def test_the_least_are_there_before_any_job_and_the_most_is_never_passed(
    launcher: Launcher,
) -> None:
    made = tended(pool(launcher, min_actors=1))
    assert made.size == 1
    made.expect(10)
    assert tended(made).size == 3


def test_an_idle_actor_above_the_least_is_released_after_its_time(launcher: Launcher) -> None:
    made = pool(launcher, min_actors=1, idle_seconds=0.001)
    made.expect(3)
    assert tended(made).size == 3
    made.expect(0)
    threading.Event().wait(0.01)
    assert tended(made).size == 1
    assert launcher.killed == [1, 2]


def test_an_actor_that_nobody_waits_for_any_more_is_not_waited_for(launcher: Launcher) -> None:
    launcher.at_once = None
    made = pool(launcher, idle_seconds=0.001)
    made.expect(2)
    assert tended(made).size == 2
    made.expect(0)
    threading.Event().wait(0.01)
    assert tended(made).size == 0


def test_no_more_jobs_have_room_than_actors_and_the_prefetch(launcher: Launcher) -> None:
    made = pool(launcher, max_actors=2)
    taken = 0
    while made.has_room:
        made.begin()
        taken += 1
    # the first actor is yet to come
    assert taken == 2
    made.expect(2)
    tended(made)
    while made.has_room:
        made.begin()
        taken += 1
    assert taken == 3
    made.end()
    assert made.has_room


def test_an_actor_that_died_while_it_was_idle_is_never_lent(launcher: Launcher) -> None:
    made = tended(pool(launcher, min_actors=2))
    launcher.dead = {2}
    assert made.acquire().handle == 1
    assert launcher.killed == [2]
    assert tended(made).size == 2


def test_jobs_of_a_pipeline_that_cannot_be_loaded_fail_with_the_reason(launcher: Launcher) -> None:
    launcher.at_once = Failure("pipeline tiny", "its weights are others", "restore them")
    made = pool(launcher)
    made.expect(1)
    tended(made)
    with pytest.raises(PipelineError, match="its weights are others"):
        made.acquire()
    assert made.has_room
    # and it is not loaded again and again
    tended(made, 20)
    assert launcher.started == 1


def test_an_actor_that_dies_while_it_loads_is_tried_elsewhere_before_a_job_is_blamed(
    launcher: Launcher,
) -> None:
    lost = LostError("pipeline tiny", Loss("lost", "it died", blamed=False))
    launcher.at_once = lost
    made = pool(launcher)
    made.expect(1)
    tended(made, 2)
    launcher.at_once = READY
    tended(made)
    assert made.acquire().handle == launcher.started
    launcher.at_once = lost
    other = pool(launcher, place_seconds=60)
    other.expect(1)
    waiter = threading.Thread(target=slowly, args=(other,))
    waiter.start()
    with pytest.raises(LostError, match="it died"):
        other.acquire()
    waiter.join()


def test_a_cluster_without_room_gives_the_job_back_without_an_attempt(launcher: Launcher) -> None:
    launcher.at_once = None
    made = pool(launcher, place_seconds=0.05, num_gpus=1)
    with pytest.raises(LostError, match=r"no room for it within 0\.05 s") as caught:
        made.acquire()
    assert (caught.value.loss.counts, caught.value.loss.blamed) == (False, False)


def test_a_self_test_that_differs_keeps_the_actor_from_jobs(launcher: Launcher) -> None:
    told: list[tuple[str, Ready]] = []
    launcher.at_once = Ready("node", "cpu", ["grade 2 instead of 3"])
    made = Pool("tiny", RaySection(min_actors=1), launcher, lambda *news: told.append(news))
    tended(made)
    assert told == [("tiny", launcher.at_once)]
    assert (made.size, launcher.killed) == (0, [1])


def test_who_waits_when_the_node_ends_is_told_at_once(launcher: Launcher) -> None:
    launcher.at_once = None
    made = tended(pool(launcher, min_actors=1))
    why = LostError("pipeline tiny", Loss("lost", "the node was stopped", blamed=False))
    threading.Timer(0.1, made.close, (why,)).start()
    with pytest.raises(LostError, match="the node was stopped"):
        made.acquire()
    assert launcher.killed == [1]


def test_the_rest_after_failures_grows_and_ends(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "_AFTER_FAILURE", 0.001)
    launcher.at_once = Failure("pipeline tiny", "no such file", "restore it")
    made = pool(launcher, min_actors=1)
    for _ in range(4):
        tended(made)
        threading.Event().wait(0.02)
    assert launcher.started == 4
    launcher.at_once = READY
    tended(made)
    threading.Event().wait(0.05)
    assert tended(made).acquire().ready == READY
