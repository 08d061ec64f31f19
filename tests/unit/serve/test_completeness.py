"""A quiet study waits while a peer has more of its images, and never for a peer that is away."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from dicom_node.config import InvalidConfigError
from dicom_node.errors import RetrieveError, UnreachableError
from dicom_node.model.states import DeliveryState, JobState
from dicom_node.serve.completeness import Completeness, completeness_of
from dicom_node.store import index, jobs, outbox, retrievals
from dicom_node.store.database import Database
from dicom_node.store.jobs import JobResult, NewJob, NewReport
from dicom_node.store.tables import Delivery, Study
from tests.factories import ManualClock, facts
from tests.unit.serve.archive import FakeArchive, FakeSeries
from tests.unit.serve.small_node import config_in, events

QUIET, LONGEST = timedelta(seconds=60), timedelta(seconds=900)
STUDY = "1.1"


class Bench:
    """Settling with questions; each `turn` is one of the coordinator's."""

    def __init__(self, database: Database, clock: ManualClock) -> None:
        self.database, self.clock = database, clock
        self.archive = FakeArchive({STUDY: {"1.1.1": FakeSeries("DX", ["1", "2", "3"])}})
        self.completeness = Completeness(
            "pacs",
            lambda: self.archive,
            database=database,
            clock=clock,
            quiet=QUIET,
            longest=LONGEST,
        )

    def arrive(self, *sops: str, study: str = STUDY, series: str = "1.1.1") -> None:
        for sop in sops:
            item = facts(study=study, series=series, sop=sop)
            now = self.clock.now()
            with self.database.write() as session:
                index.add_instance(session, index.Arrival(item, f"x/{sop}", sop, now), now)

    def turn(self, seconds: float = 0) -> list[str]:
        """Let time pass, ask, settle; returns what has settled."""
        self.clock.move(seconds)
        self.completeness.ask_about_quiet_studies()
        with self.database.write() as session:
            return index.settle_quiet(session, self.clock.now(), QUIET, self.completeness.ready)

    @property
    def said(self) -> list[str]:
        return [str(event["asked"]) for event in events(self.database, "study_settled")]


@pytest.fixture(params=[True, False], ids=["counts", "does not count"])
def bench(request: pytest.FixtureRequest, database: Database, clock: ManualClock) -> Bench:
    bench = Bench(database, clock)
    bench.archive.counts = request.param
    return bench


def test_a_complete_study_settles_after_the_quiet_time(bench: Bench) -> None:
    bench.arrive("1", "2", "3")
    assert bench.turn(59) == []
    assert not bench.archive.asked
    assert bench.turn(1) == [STUDY]
    assert bench.said == ["3 of 3 images"]


def test_a_study_waits_for_the_images_that_the_peer_has(bench: Bench) -> None:
    bench.arrive("1", "2")
    assert bench.turn(60) == []
    assert bench.turn(30) == []
    assert [event["asked"] for event in events(bench.database, "study_waits_for_images")] == [
        "2 of 3 images"
    ]
    bench.arrive("3")
    assert bench.turn(59) == []
    assert bench.turn(1) == [STUDY]
    assert bench.said == ["3 of 3 images"]


def test_a_study_whose_images_never_come_settles_in_the_end(bench: Bench) -> None:
    bench.arrive("1")
    for _ in range(15):
        assert bench.turn(60) == []
    assert bench.turn(60) == [STUDY]
    assert bench.said == ["1 of 3 images"]
    assert len(events(bench.database, "study_waits_for_images")) == 1


def test_the_peer_is_asked_once_in_a_quiet_time(bench: Bench) -> None:
    bench.arrive("1")
    bench.turn(60)
    asked = len(bench.archive.asked)
    bench.turn(1)
    bench.turn(1)
    assert len(bench.archive.asked) == asked
    bench.turn(58)
    assert len(bench.archive.asked) == 2 * asked


def test_an_image_that_vanishes_there_is_not_waited_for(bench: Bench) -> None:
    bench.arrive("1", "2")
    bench.turn(60)
    bench.archive.has[STUDY]["1.1.1"].instances.remove("3")
    assert bench.turn(60) == [STUDY]


def test_a_peer_that_is_away_holds_up_nothing(bench: Bench) -> None:
    bench.archive.down = UnreachableError("peer pacs", "no association", "wait")
    bench.arrive("1")
    bench.arrive("9", study="1.9", series="1.9.1")
    assert bench.turn(60) == [STUDY, "1.9"]
    assert bench.said == ["not answered: no association"] * 2
    # the second study was not tried with a peer that is known to be away
    assert len(bench.archive.asked) == 1


def test_a_peer_that_refuses_one_question_is_asked_the_others(bench: Bench) -> None:
    bench.archive.down = RetrieveError("C-FIND of pacs", "status 0xC001 (Failure)", "look")
    bench.arrive("1")
    bench.arrive("9", study="1.9", series="1.9.1")
    assert bench.turn(60) == [STUDY, "1.9"]
    assert len(bench.archive.asked) == 2


def test_an_answer_that_cannot_be_read_holds_up_nothing(bench: Bench) -> None:
    bench.archive.down = ValueError("Test^Phantom")
    bench.arrive("1")
    bench.arrive("9", study="1.9", series="1.9.1")
    assert bench.turn(60) == [STUDY, "1.9"]
    assert bench.said == ["not answered: ValueError"] * 2


def test_a_study_that_the_peer_does_not_know_settles(bench: Bench) -> None:
    bench.arrive("9", study="1.9", series="1.9.1")
    assert bench.turn(60) == ["1.9"]
    assert bench.said == ["the peer does not know the study"]


def test_questions_that_hang_do_not_hold_a_study_for_ever(bench: Bench) -> None:
    bench.arrive("1")
    bench.clock.move(60 + 900)
    with bench.database.write() as session:
        settled = index.settle_quiet(session, bench.clock.now(), QUIET, bench.completeness.ready)
    assert settled == [STUDY]
    assert bench.said == ["no answer in time"]


def test_our_own_results_at_the_peer_are_not_waited_for(bench: Bench) -> None:
    bench.arrive("1", "2", "3")
    bench.turn(60)
    with bench.database.write() as session:
        study = session.query(Study).one()
        study.routed_revision = study.revision
        new = NewJob("kl", "1", "w", ["1"], ["pacs"], "route knees")
        job = jobs.enqueue(session, study, new, bench.clock.now())
        assert job is not None
        assert jobs.claim(session, "w", bench.clock.now(), timedelta(seconds=30)) is job
        reports = [
            NewReport("SR", "1.2.840.10008.5.1.4.1.1.88.33", "2.25.1", "a", "h"),
            NewReport("SC", "1.2.840.10008.5.1.4.1.1.7", "2.25.2", "b", "h"),
        ]
        done = JobResult(JobState.DONE, reports, [])
        assert jobs.finish(session, job.id, "w", done, bench.clock.now())
        session.flush()
        for delivery in session.query(Delivery).all():
            assert delivery.state == DeliveryState.PENDING
            outbox.mark_sent(session, delivery.id, "status 0x0000", bench.clock.now())
    there = bench.archive.has[STUDY]
    there |= {"2.25.10": FakeSeries("SR", ["2.25.1"]), "2.25.20": FakeSeries("OT", ["2.25.2"])}
    there["1.1.1"].instances.append("4")
    bench.arrive("4")
    assert bench.turn(60) == [STUDY]
    assert bench.said[-1] == "4 of 4 images"
    there["1.1.1"].instances.append("5")
    there["1.1.1"].instances.append("6")
    bench.arrive("5")
    assert bench.turn(60) == []


def test_reports_of_others_at_the_peer_are_not_waited_for(bench: Bench) -> None:
    bench.archive.has[STUDY]["1.1.7"] = FakeSeries("SR", ["7"])
    bench.archive.has[STUDY]["1.1.8"] = FakeSeries("PR", ["8"])
    bench.arrive("1", "2", "3")
    assert bench.turn(60) == [STUDY]


def test_of_a_study_that_we_pulled_only_what_we_asked_for_is_waited_for(bench: Bench) -> None:
    bench.archive.has[STUDY]["1.1.2"] = FakeSeries("CT", [f"c{number}" for number in range(9)])
    with bench.database.write() as session:
        retrievals.begin(session, STUDY, "pacs", {"1.1.1": 3}, bench.clock.now())
    bench.arrive("1", "2")
    assert bench.turn(60) == []
    bench.arrive("3")
    assert bench.turn(60) == [STUDY]


def test_nobody_is_asked_unless_the_configuration_says_so(
    tmp_path: Path, database: Database, clock: ManualClock
) -> None:
    assert completeness_of(config_in(tmp_path), database, clock) is None
    asking = config_in(tmp_path, settle={"quiet_seconds": 60, "ask_peer": "pacs"})
    assert completeness_of(asking, database, clock) is not None
    with pytest.raises(InvalidConfigError, match="pacz"):
        config_in(tmp_path, settle={"ask_peer": "pacz"})
