"""Pipelines on a Ray cluster of two nodes: the same results as here, whatever becomes of a node."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import generate_uid
from sqlalchemy import select, update

from dicom_node.clock import SystemClock
from dicom_node.config.ray import RaySection
from dicom_node.inference.bundles import Bundle, find_bundles
from dicom_node.inference.local import LocalExecutor
from dicom_node.model.states import StudyState
from dicom_node.serve.remote.cluster import Cluster
from dicom_node.serve.remote.dispatcher import Dispatcher
from dicom_node.serve.remote.executor import RayExecutor, RemoteSettings
from dicom_node.serve.worker import Worker, WorkerSettings
from dicom_node.store import jobs
from dicom_node.store.database import Database
from dicom_node.store.jobs import NewJob
from dicom_node.store.spool import Spool
from dicom_node.store.tables import Job, Report, Study, Suspect
from dicom_node.store.wake import Polling
from dicom_node.studies.indexing import Indexer
from tests.factories import radiograph
from tests.faults import misbehaving_parts
from tests.peers.ports import wait_for
from tests.peers.ray_cluster import RayCluster, ray_cluster
from tests.unit.inference.job_files import spot
from tests.unit.inference.tiny_bundles import parts, write_bundle
from tests.unit.serve.small_node import put_into_inbox

LIMIT = timedelta(seconds=2)
LOADING = 240.0
"""Seconds that an actor may take to load: on a busy machine PyTorch alone takes a minute."""
CLOCK = SystemClock()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """By a Ray client, too, before a release: each of its calls goes through a proxy."""
    if "site" in metafunc.fixturenames:
        ways = ["auto", "client"] if metafunc.config.getoption("--long") else ["auto"]
        metafunc.parametrize("ray", ways, indirect=True, scope="module")


@pytest.fixture(scope="module")
def machines() -> Iterator[RayCluster]:
    with ray_cluster() as cluster:
        yield cluster


NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "tiny": {},
    "waits": {"_target_": f"{misbehaving_parts.__name__}.WaitsForLeave"},
    "crashes": {"_target_": f"{misbehaving_parts.__name__}.Crashes"},
    "sleeps": {"_target_": f"{misbehaving_parts.__name__}.SleepsForEver"},
}


@dataclass(frozen=True)
class Ray:
    """The cluster as the worker has it: warm actors outlive a test."""

    cluster: Cluster
    executor: RayExecutor
    bundles: Mapping[str, Bundle]
    marks: Path


@pytest.fixture(scope="module")
def ray(
    request: pytest.FixtureRequest,
    machines: RayCluster,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ray]:
    while len(machines.nodes()) < 2:
        machines.add()
    folder = tmp_path_factory.mktemp("ray")
    marks = folder / "marks"
    marks.mkdir()
    for name, network in NETWORKS.items():
        own = {"folder": str(marks)} if name == "waits" else {}
        inference = parts(**({"network_def": {**network, **own}} if network else {}))
        write_bundle(folder / "pipelines", name, inference=inference)
    found = find_bundles([folder / "pipelines"])
    bundles = {name: found[name] for name in NETWORKS}
    cluster = Cluster("auto" if request.param == "auto" else machines.client_address)
    cluster.join()
    executor = RayExecutor(cluster, grace=3)
    none = RaySection(num_cpus=1, min_actors=0, max_actors=1, idle_seconds=2)
    executor.take(
        bundles,
        RemoteSettings(
            pools=dict.fromkeys(NETWORKS, none)
            | {"waits": RaySection(min_actors=1, max_actors=2, idle_seconds=2)},
            limits=dict.fromkeys(NETWORKS, timedelta(minutes=10)) | {"sleeps": LIMIT},
            memory_mb=0,
            cache_dir=folder / "cache",
        ),
    )
    yield Ray(cluster, executor, bundles, marks)
    executor.close()
    cluster.leave()


@dataclass
class Site:
    """A database, a spool and a worker whose pipelines run on the cluster."""

    folder: Path
    database: Database
    ray: Ray

    def queue(self, pipeline: str, study: str | None = None) -> int:
        """Receive a study of one film and queue a job on it; returns the job's number."""
        image = radiograph(spot(30, 90), study=study or str(generate_uid()))
        spool = Spool(self.folder / "data" / "spool")
        put_into_inbox(spool, image)
        Indexer(self.database, spool, CLOCK).index_waiting()
        with self.database.write() as session:
            found = session.scalars(
                select(Study).where(Study.study_instance_uid == image.StudyInstanceUID)
            ).one()
            found.state = StudyState.SETTLED
            new = NewJob(
                pipeline,
                version="1.2.3",
                weights_sha256="w",
                inputs=[str(image.SOPInstanceUID)],
                reason="all films",
                peers=["pacs"],
            )
            job = jobs.enqueue(session, found, new, CLOCK.now())
            assert job is not None
            session.flush()
            return job.id

    def worker(self, executor: Any, name: str = "worker-0@here", **settings: Any) -> Worker:
        return Worker(
            WorkerSettings(name, timedelta(seconds=30), 1, timedelta(seconds=0), **settings),
            database=self.database,
            executor=executor,
            spool_dir=self.folder / "data" / "spool",
            reports_dir=self.folder / "data" / name,
            clock=CLOCK,
        )

    @contextlib.contextmanager
    def dispatching(self, stop: threading.Event | None = None) -> Iterator[None]:
        """Give jobs to the cluster meanwhile; with `stop` as a node that is stopped then."""
        dispatcher = Dispatcher(
            self.worker(self.ray.executor, "worker-1@here"),
            self.ray.executor,
            self.ray.cluster,
            self.database,
            CLOCK,
            Polling(),
            tested=True,
        )
        turn = threading.Event()
        thread = threading.Thread(
            target=dispatcher.run,
            args=(turn, stop or threading.Event(), timedelta(seconds=0.05)),
        )
        thread.start()
        try:
            yield
        finally:
            if stop is not None:
                stop.set()
            turn.set()
            thread.join(60)
            assert not thread.is_alive()

    def begun(self, number: int) -> list[Path] | None:
        """The marks of the jobs of `waits` that have begun, if they are so many."""
        found = list(self.ray.marks.iterdir())
        return found if len(found) == number else None

    def job(self, number: int) -> Job:
        with self.database.read() as session:
            return session.get_one(Job, number)

    def ended(self, number: int, deadline: float = LOADING) -> Job:
        states = {"done", "failed", "not_evaluated"}
        wait_for(f"job {number}", lambda: self.job(number).state in states, deadline)
        return self.job(number)

    def reports(self, number: int, folder: str) -> Mapping[str, tuple[str, bytes]]:
        with self.database.read() as session:
            rows = session.scalars(select(Report).where(Report.job_id == number)).all()
            home = self.folder / "data" / folder
            return {r.sop_instance_uid: (r.kind, (home / r.path).read_bytes()) for r in rows}


@pytest.fixture
def site(tmp_path: Path, database: Database, ray: Ray) -> Site:
    for mark in ray.marks.iterdir():
        mark.unlink()
    return Site(tmp_path, database, ray)


def test_reports_are_those_of_the_local_executor_byte_for_byte(site: Site) -> None:
    number = site.queue("tiny", "1.2.3")
    local = site.worker(LocalExecutor({"tiny": site.ray.bundles["tiny"]}, device="cpu", threads=1))
    assert local.run_one()
    here = site.reports(number, "worker-0@here")
    record = site.job(number).run_record
    with site.database.write() as session:
        session.execute(update(Job).values(state="queued"))

    with site.dispatching():
        wait_for("the job", lambda: "ray_node" in (site.job(number).run_record or {}), LOADING)

    there = site.reports(number, "worker-1@here")
    assert [kind for kind, _ in here.values()] == ["SR", "SC"]
    assert there == here
    job = site.job(number)
    assert (job.state, job.attempts) == ("done", 2)
    assert record is not None
    assert job.run_record is not None
    same = ("device", "precision", "torch", "weights_sha256", "version", "python")
    assert {k: job.run_record[k] for k in same} == {k: record[k] for k in same}
    assert job.run_record["executor"] == "ray"
    assert len(job.run_record["ray_node"]) == 56


def test_the_pool_grows_with_the_queue_and_shrinks_without_it(site: Site) -> None:
    numbers = [site.queue("waits") for _ in range(5)]
    executor = site.ray.executor
    with site.dispatching():
        wait_for("two at work", lambda: site.begun(2), LOADING)
        # two run, one is claimed ahead, two wait for whoever has an actor
        wait_for("the prefetch", lambda: "waits" in executor.full())
        with site.database.read() as session:
            assert jobs.waiting(session) == {"waits": 2}
        assert executor.actors()["waits"] == 2
        (site.ray.marks / "leave").touch()
        for number in numbers:
            assert site.ended(number).state == "done"
        wait_for("the release of one", lambda: executor.actors()["waits"] == 1, 60)
    assert {site.job(number).attempts for number in numbers} == {1}


def test_a_job_that_crashes_or_takes_too_long_is_to_blame(site: Site) -> None:
    crash, sleep = site.queue("crashes"), site.queue("sleeps")
    with site.dispatching():
        crashed, slept = site.ended(crash), site.ended(sleep)
    assert crashed.error is not None
    assert (crashed.state, crashed.error["reason"]) == ("failed", "crashed")
    assert slept.error is not None
    assert slept.error["reason"] == "time_limit"
    assert f"longer than its limit of {LIMIT.total_seconds():g} s" in slept.error["why"]
    with site.database.read() as session:
        suspects = set(session.scalars(select(Suspect.pipeline)))
    assert suspects == {"crashes", "sleeps"}


def test_a_job_whose_ray_node_is_lost_runs_elsewhere_and_reports_once(
    site: Site, machines: RayCluster
) -> None:
    """The node's loss is no attempt of the job, and no stain on its pipeline."""
    number = site.queue("waits")
    with site.dispatching():
        (first,) = wait_for("its beginning", lambda: site.begun(1), LOADING)
        machines.kill(machines.node_of(int(first.stem)))
        wait_for("another beginning", lambda: site.begun(2), LOADING)
        (site.ray.marks / "leave").touch()
        job = site.ended(number)
    assert (job.state, job.attempts, job.error) == ("done", 1, None)
    made = site.reports(number, "worker-1@here").values()
    assert sorted(kind for kind, _ in made) == ["SC", "SR"]
    with site.database.read() as session:
        assert session.scalars(select(Suspect)).all() == []
        assert len(session.scalars(select(Report)).all()) == 2


def test_jobs_in_hand_when_the_node_stops_go_back_and_count_for_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one: the executor ends with it."""
    monkeypatch.setattr("dicom_node.serve.remote.dispatcher.LAST_WORDS", 0.1)
    number = site.queue("waits")
    with site.dispatching(threading.Event()):
        wait_for("its beginning", lambda: site.begun(1), LOADING)
    job = site.job(number)
    assert (job.state, job.attempts, job.worker) == ("queued", 0, None)
