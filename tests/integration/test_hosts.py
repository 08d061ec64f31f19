"""Two receivers and a worker, each on a host with a data folder of its own, as real processes.

A load balancer hands the images of one study to both receivers; the worker fetches them from
there, and the coordinator fetches the objects from the worker's host.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import select

from dicom_node.demo.phantom_studies import radiograph_study, write_study
from dicom_node.demo.ports import free_port
from dicom_node.store.database import Database
from dicom_node.store.tables import Instance, Job, Report, Study
from pipelines.phantoms.knee import knee_radiograph
from tests.peers import dcmtk
from tests.peers.balancer import Balancer, running_balancer
from tests.peers.certificates import make_certificates
from tests.peers.hosts import Host
from tests.peers.ports import wait_for
from tests.peers.postgres import Postgres


class Site:
    """The hosts, what is in front of them, and what comes out."""

    def __init__(
        self, one: Host, two: Host, ai: Host, balancer: Balancer, database: Database, pacs: Path
    ) -> None:
        self.one, self.two, self.ai = one, two, ai
        self.balancer, self.database, self.pacs = balancer, database, pacs

    def send(self, film: Path) -> None:
        """Send a film by an association of its own, wherever the balancer hands it."""
        done = dcmtk.storescu(self.balancer.port, [film], "-aec", "AINODE", "-aet", "STORESCU")
        assert done.returncode == 0, done.stderr

    def holders(self, study: str) -> dict[str, str | None]:
        """Which host holds each image, by SOP Instance UID."""
        with self.database.read() as session:
            rows = session.scalars(
                select(Instance).join(Instance.study).where(Study.study_instance_uid == study)
            )
            return {row.sop_instance_uid: row.host for row in rows}

    def state(self, study: str) -> str | None:
        with self.database.read() as session:
            return session.scalar(select(Study.state).where(Study.study_instance_uid == study))

    def jobs(self, study: str) -> list[Job]:
        with self.database.read() as session:
            query = select(Job).join(Job.study).where(Study.study_instance_uid == study)
            return list(session.scalars(query))

    def done(self, study: str) -> bool:
        """Every job is done and every object is with the PACS."""
        with self.database.read() as session:
            jobs = session.scalars(
                select(Job).join(Job.study).where(Study.study_instance_uid == study)
            ).all()
            ways = [way for job in jobs for report in job.reports for way in report.deliveries]
            return (
                bool(ways)
                and all(job.state == "done" for job in jobs)
                and all(way.state == "sent" for way in ways)
            )

    def wait_until_done(self, study: str) -> None:
        try:
            wait_for("the reports in the PACS", lambda: self.done(study), 180)
        except AssertionError as error:
            told = [(job.state, job.error) for job in self.jobs(study)]
            logs = "\n".join(host.said() for host in (self.one, self.two, self.ai))
            raise AssertionError(f"{error}\n{told}\n{logs}") from None

    def objects(self, study: str) -> Counter[str]:
        """How many objects of each modality the PACS has of a study."""
        found = [dcmread(file, stop_before_pixels=True) for file in self.pacs.iterdir()]
        return Counter(str(item.Modality) for item in found if item.StudyInstanceUID == study)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("hosts")
    url = postgres.new_database()
    pacs_port = free_port()
    common = {
        "database_url": url,
        "certificates": make_certificates(folder / "tls"),
        "pacs_port": pacs_port,
    }
    with ExitStack() as stack:
        pacs = stack.enter_context(dcmtk.running_storescp(folder / "pacs", pacs_port, "+uf"))
        one = Host(folder / "rx-1", ("receiver", "keeper"), **common)
        two = Host(folder / "rx-2", ("receiver", "keeper"), **common)
        ai = Host(folder / "ai", ("coordinator", "keeper", "worker"), **common)
        database = Database(url)
        database.migrate()
        stack.callback(database.close)
        for host in (one, two, ai):
            stack.callback(host.stop)
        one.start()
        two.start()
        ai.start("coordinator", "keeper")
        for host in (one, two, ai):
            host.wait_for_log("keeps_files")
        for host in (one, two):
            host.wait_for_log("receiver_listens")
        ai.wait_for_log("leads")
        balancer = stack.enter_context(running_balancer([one.port, two.port]))
        yield Site(one, two, ai, balancer, database, pacs)


def films(folder: Path, key: str) -> tuple[str, list[Path]]:
    """A study of one film of each knee: its UID and files."""
    files = []
    for number, side in enumerate("RL"):
        phantom = knee_radiograph(number, 2, side, spacing_mm=0.5)
        (film,) = study = radiograph_study(
            phantom.image,
            phantom.spacing_mm,
            key=key,
            body_part="KNEE",
            description="Knee AP",
            laterality=side,
        )
        if files:
            film.SOPInstanceUID = f"{film.SOPInstanceUID[:50]}.2"
            film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID
            film.InstanceNumber = 2
        write_study(study, folder)
        files.append(folder / f"{film.SOPInstanceUID}.dcm")
    return str(film.StudyInstanceUID), files


def placed(host: Host, files: Sequence[Path]) -> int:
    """How many of some files lie in a host's spool, the inbox not counted."""
    names = {file.name for file in files}
    return sum(file.name in names for file in host.data.glob("spool/studies/*/*/*.dcm"))


def test_a_study_on_two_hosts_waits_for_the_one_that_is_gone_and_is_reported_once(
    site: Site, tmp_path: Path
) -> None:
    study, sent = films(tmp_path / "films", "HOSTS-1")
    for film in sent:
        site.send(film)
    assert len(set(site.balancer.handed[-2:])) == 2
    wait_for("the job", lambda: site.jobs(study), 60)
    assert set(site.holders(study).values()) == {"rx-1", "rx-2"}
    wait_for("the files", lambda: placed(site.one, sent) + placed(site.two, sent) == 2)

    site.two.kill()
    site.ai.start("worker")
    wait_for("the job to wait", lambda: site.jobs(study)[0].error, 180)

    (job,) = site.jobs(study)
    assert job.error is not None
    assert (job.state, job.attempts, job.error["what"]) == ("queued", 0, "host rx-2")
    assert "does not answer" in job.error["why"]
    assert site.objects(study) == {}
    assert "host rx-2: it holds files and does not answer" in site.one.cli("jobs", "--wide")

    site.two.start()
    site.wait_until_done(study)
    (job,) = site.jobs(study)
    assert (job.state, len(job.inputs)) == ("done", 2)
    with site.database.read() as session:
        assert set(session.scalars(select(Report.host))) == {"ai"}
    once = site.objects(study)
    assert once["SR"] == 1, once

    # the balancer hands a study that is sent again to the other receivers: the newest copy counts
    before = site.holders(study)
    site.send(sent[1])
    site.send(sent[0])
    wait_for("both copies", lambda: _all_moved(before, site.holders(study)), 60)
    assert site.state(study) == "settled"
    assert (len(site.jobs(study)), site.objects(study)) == (1, once)


def _all_moved(before: dict[str, str | None], after: dict[str, str | None]) -> bool:
    return before.keys() == after.keys() and all(before[uid] != after[uid] for uid in before)


def test_a_study_does_not_settle_without_what_a_host_acknowledged_before_it_was_gone(
    site: Site, tmp_path: Path
) -> None:
    study, sent = films(tmp_path / "films", "HOSTS-2")
    site.two.kill("keeper")
    for film in sent:
        site.send(film)
    site.two.kill("receiver")
    wait_for("the image of the other host", lambda: len(site.holders(study)) == 1, 60)
    long_after = datetime.now(UTC) + timedelta(seconds=5)
    wait_for("five times the quiet time", lambda: datetime.now(UTC) > long_after)
    assert (site.state(study), site.jobs(study)) == ("receiving", [])

    site.two.start()
    site.wait_until_done(study)
    (job,) = site.jobs(study)
    assert (len(job.inputs), set(site.holders(study).values())) == (2, {"rx-1", "rx-2"})
    assert site.objects(study)["SR"] == 1
