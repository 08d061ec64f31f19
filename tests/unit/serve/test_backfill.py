"""Studies of the past are pulled once, whatever stops the run."""

from __future__ import annotations

from collections import Counter
from datetime import date, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from dicom_node.config import NodeConfig
from dicom_node.errors import ConfigError, RetrieveError, UnreachableError
from dicom_node.model.states import RetrievalState
from dicom_node.retrieve.found import Pulled
from dicom_node.serve.backfill import Backfill, Outcome, Step, Waiting
from dicom_node.serve.pace import Hours, Pace, parse_rate
from dicom_node.serve.wanted import Wanted, regions_of
from dicom_node.store import index, jobs, retrievals
from dicom_node.store.database import Database
from dicom_node.store.jobs import NewJob
from dicom_node.store.tables import Job, Study
from tests.factories import ManualClock, facts
from tests.unit.serve.archive import FakeArchive, FakeSeries
from tests.unit.serve.small_node import config_in, events, the_study

DAY = date(2026, 10, 1)
KNEES = Wanted(DAY, DAY, ["DX"], frozenset({"knee"}))
GONE = UnreachableError("peer pacs", "no answer", "wait")


class Bench:
    """A backfill on a database; time passes only where something waits."""

    def __init__(self, folder: Path, database: Database, clock: ManualClock) -> None:
        self.database, self.clock = database, clock
        self.config: NodeConfig = config_in(folder)
        self.archive = FakeArchive({}, arrive=self.arrive)
        self.pipelines = {"tiny": ("1.0.0", "w")}
        self.waited: list[float] = []
        self.stopped = False

    def put(self, *studies: str, images: int = 2, **attributes: str) -> None:
        """Put studies with one DX series into the archive."""
        for uid in studies:
            sops = [f"{uid}.1.{number}" for number in range(images)]
            self.archive.has[uid] = {f"{uid}.1": FakeSeries("DX", sops, dict(attributes))}

    def arrive(self, study: str, series: str, sop: str) -> None:
        item = facts(study=study, series=series, sop=sop)
        now = self.clock.now()
        with self.database.write() as session:
            index.add_instance(session, index.Arrival(item, f"x/{sop}", sop, now), now)

    def analyse(self, uid: str, version: str = "1.0.0") -> None:
        """Settle a study and queue its job, as the coordinator would."""
        with self.database.write() as session:
            index.settle_quiet(session, self.clock.now(), timedelta(0))
            study = session.query(Study).filter_by(study_instance_uid=uid).one()
            study.routed_revision = study.revision
            new = NewJob("tiny", version, "w", [f"{uid}.1.0"], ["pacs"], "route knees")
            jobs.enqueue(session, study, new, self.clock.now())

    def wait(self, seconds: float) -> bool:
        if seconds:
            self.waited.append(seconds)
            self.clock.move(seconds)
        return self.stopped

    def backfill(self, wanted: Wanted = KNEES, *, route_again: bool = False) -> Backfill:
        return Backfill(
            "pacs",
            self.archive,
            wanted,
            database=self.database,
            pipelines=self.pipelines,
            clock=self.clock,
            wait=self.wait,
            first_wait=5,
            by="jane",
            route_again=route_again,
        )

    def pace(self, **settings: Any) -> Pace:
        return Pace(self.config, self.database, self.clock, **settings)

    def run(self, pace: Pace | None = None, wanted: Wanted = KNEES) -> list[Step]:
        work = self.backfill(wanted)
        studies = [study for day in work.search() for study in day.new]
        steps = work.run(studies, pace or self.pace())
        return [step for step in steps if isinstance(step, Step)]

    def row(self, uid: str) -> Any:
        with self.database.read() as session:
            return retrievals.find(session, uid, "pacs")


@pytest.fixture
def bench(tmp_path: Path, database: Database, clock: ManualClock) -> Bench:
    return Bench(tmp_path, database, clock)


def outcomes(steps: list[Step]) -> dict[str, Outcome]:
    return {step.study_uid: step.outcome for step in steps}


def test_what_is_not_here_is_pulled_and_told(bench: Bench) -> None:
    bench.put("1.1", "1.2")
    assert outcomes(bench.run()) == {"1.1": Outcome.PULLED, "1.2": Outcome.PULLED}
    assert bench.archive.pulled == [("1.1", ("1.1.1",)), ("1.2", ("1.2.1",))]
    assert the_study(bench.database, "1.1").state == "receiving"
    assert bench.row("1.1").state == RetrievalState.PULLED
    assert [event["instances"] for event in events(bench.database, "study_pulled")] == [2, 2]
    assert [event["by"] for event in events(bench.database, "study_asked_for")] == ["jane"] * 2


def test_a_second_run_pulls_nothing_even_when_nothing_is_indexed_yet(bench: Bench) -> None:
    bench.archive.arrive = lambda study, series, sop: None
    bench.put("1.1", "1.2")
    bench.run()
    assert set(outcomes(bench.run()).values()) == {Outcome.HERE}
    # after an hour it should be in the index: it is asked for again
    bench.clock.move(3700)
    assert set(outcomes(bench.run()).values()) == {Outcome.PULLED}


@pytest.mark.parametrize("counts", [True, False])
def test_what_is_here_whole_is_not_pulled(bench: Bench, counts: bool) -> None:
    bench.archive.counts = counts
    bench.put("1.1", "1.2")
    for sop in ("1.1.1.0", "1.1.1.1", "1.2.1.0"):
        bench.arrive(sop[:3], f"{sop[:3]}.1", sop)
    assert outcomes(bench.run()) == {"1.1": Outcome.HERE, "1.2": Outcome.PULLED}


def test_only_series_of_the_modality_and_body_part_are_pulled(bench: Bench) -> None:
    bench.put("1.1")
    bench.archive.has["1.1"] |= {
        "1.1.2": FakeSeries("CT", ["1.1.2.0"]),
        "1.1.3": FakeSeries("DX", ["1.1.3.0"], {"BodyPartExamined": "HAND"}),
        "1.1.4": FakeSeries("DX", ["1.1.4.0"], {"SeriesDescription": "Knie re. a.p."}),
        "1.1.5": FakeSeries("DX", ["1.1.5.0"], {"BodyPartExamined": "EXTREMITY"}),
    }
    bench.put("1.2", BodyPartExamined="HIP")
    steps = bench.run()
    # what does not tell its body part, or may be a knee, is left to the routes
    assert bench.archive.pulled == [("1.1", ("1.1.1", "1.1.4", "1.1.5"))]
    assert outcomes(steps)["1.2"] is Outcome.NOT_WANTED
    assert steps[1].text == "another part of the body"


def test_what_another_version_analysed_is_routed_again_and_not_pulled(bench: Bench) -> None:
    bench.put("1.1", "1.2")
    bench.run()
    bench.analyse("1.1")
    bench.analyse("1.2", version="0.9.0")
    bench.archive.pulled.clear()
    assert outcomes(bench.run()) == {"1.1": Outcome.HERE, "1.2": Outcome.ROUTED_AGAIN}
    assert not bench.archive.pulled
    study = the_study(bench.database, "1.2")
    assert study.routed_revision < study.revision
    assert [event["by"] for event in events(bench.database, "study_to_route_again")] == ["jane"]


def test_all_that_is_here_is_routed_again_when_asked(bench: Bench) -> None:
    bench.put("1.1", "1.2")
    bench.run()
    bench.analyse("1.1")
    work = bench.backfill(route_again=True)
    studies = [study for day in work.search() for study in day.new]
    steps = [step for step in work.run(studies, bench.pace()) if isinstance(step, Step)]
    # the other one is on its way to the routes
    assert outcomes(steps) == {"1.1": Outcome.ROUTED_AGAIN, "1.2": Outcome.HERE}


def test_images_that_were_purged_are_pulled_only_for_another_version(bench: Bench) -> None:
    bench.put("1.1", "1.2")
    bench.run()
    bench.analyse("1.1")
    bench.analyse("1.2", version="0.9.0")
    with bench.database.write() as session:
        for study in session.query(Study):
            for instance in study.instances:
                instance.purged_at = bench.clock.now()
    assert outcomes(bench.run()) == {"1.1": Outcome.HERE, "1.2": Outcome.PULLED}


def test_a_purged_study_that_a_late_image_reopened_is_pulled_whole(bench: Bench) -> None:
    bench.put("1.1")
    bench.run()
    bench.analyse("1.1")
    with bench.database.write() as session:
        for instance in session.query(Study).one().instances:
            instance.purged_at = bench.clock.now()
    bench.clock.move(7200)
    bench.put("1.1", images=3)
    bench.arrive("1.1", "1.1.1", "1.1.1.2")
    bench.archive.arrive = lambda study, series, sop: None
    assert outcomes(bench.run()) == {"1.1": Outcome.PULLED}
    # it is on its way to the index
    assert outcomes(bench.run()) == {"1.1": Outcome.HERE}


def test_what_was_pulled_while_the_clock_was_ahead_is_not_waited_for_for_long(
    bench: Bench,
) -> None:
    bench.archive.arrive = lambda study, series, sop: None
    bench.put("1.1")
    bench.clock.move(86_400)
    bench.run()
    bench.clock.move(-86_400)
    assert outcomes(bench.run()) == {"1.1": Outcome.PULLED}


def test_a_study_that_failed_is_told_and_tried_again_in_the_next_run(bench: Bench) -> None:
    bench.put("1.1", "1.2")
    bench.archive.answers = [Pulled(1, 1, "status 0xB000 (Warning)", False)]
    first = bench.run()
    assert outcomes(first) == {"1.1": Outcome.FAILED, "1.2": Outcome.PULLED}
    assert first[0].text == "1 of 2 images came: status 0xB000 (Warning)"
    assert bench.row("1.1").state == RetrievalState.FAILED
    assert outcomes(bench.run()) == {"1.1": Outcome.PULLED, "1.2": Outcome.HERE}
    assert bench.row("1.1").attempts == 2


def test_a_success_without_images_is_a_failure(bench: Bench) -> None:
    bench.put("1.1")
    bench.archive.answers = [Pulled(0, 0, "status 0x0000 (Success)", True)]
    assert outcomes(bench.run()) == {"1.1": Outcome.FAILED}


def test_a_peer_that_is_away_for_a_while_is_waited_for(bench: Bench) -> None:
    bench.put("1.1")
    bench.archive.answers = [GONE, GONE, None]
    assert outcomes(bench.run()) == {"1.1": Outcome.PULLED}
    assert bench.waited == [5, 10]


def test_a_peer_that_stays_away_ends_the_run_which_can_go_on_later(bench: Bench) -> None:
    bench.put("1.1", "1.2", "1.3")
    bench.archive.answers = [None, GONE]
    bench.archive.stays_away = True
    with pytest.raises(UnreachableError):
        bench.run()
    bench.archive.down = None
    assert bench.row("1.2").state == RetrievalState.FAILED
    assert bench.row("1.3") is None
    assert Counter(outcomes(bench.run()).values()) == {Outcome.HERE: 1, Outcome.PULLED: 2}


def test_a_study_that_the_peer_cannot_send_does_not_hold_up_those_behind_it(bench: Bench) -> None:
    bench.put("1.1", "1.2")
    bench.archive.answers = [GONE] * 5
    steps = bench.run()
    assert outcomes(steps) == {"1.1": Outcome.FAILED, "1.2": Outcome.PULLED}
    assert steps[0].text == "peer pacs: no answer"
    assert bench.row("1.1").state == RetrievalState.FAILED


def test_a_peer_that_refuses_every_study_ends_the_run(bench: Bench) -> None:
    bench.put(*(f"1.{number}" for number in range(9)))
    bench.archive.answers = [Pulled(0, 2, "status 0xC000 (Failure)", False)] * 9
    with pytest.raises(RetrieveError, match="5 studies failed one after another"):
        bench.run()
    assert len(bench.archive.pulled) == 5


def test_an_unknown_destination_ends_the_run_at_once(bench: Bench) -> None:
    bench.put("1.1", "1.2")
    bench.archive.answers = [RetrieveError("C-MOVE", "it does not know where to send", "add us")]
    with pytest.raises(RetrieveError, match="where to send"):
        bench.run()
    assert "where to send" in bench.row("1.1").answer


def test_a_run_that_is_stopped_ends_after_the_study_in_hand(bench: Bench) -> None:
    bench.put("1.1", "1.2", "1.3")
    work = bench.backfill()
    studies = [study for day in work.search() for study in day.new]
    done = []
    for step in work.run(studies, bench.pace()):
        done.append(step)
        bench.stopped = True
    assert len(done) == 1
    bench.stopped = False
    assert Counter(outcomes(bench.run()).values()) == {Outcome.HERE: 1, Outcome.PULLED: 2}


def test_a_run_that_was_killed_pulls_the_study_in_hand_again(bench: Bench) -> None:
    bench.put("1.1")
    with bench.database.write() as session:
        retrievals.begin(session, "1.1", "pacs", {"1.1.1": 2}, bench.clock.now())
    assert outcomes(bench.run()) == {"1.1": Outcome.PULLED}


def test_looking_changes_nothing(bench: Bench) -> None:
    bench.put("1.1")
    work = bench.backfill()
    studies = [study for day in work.search() for study in day.new]
    assert outcomes(list(work.look(studies))) == {"1.1": Outcome.PULLED}
    assert not bench.archive.pulled
    assert bench.row("1.1") is None


def test_a_study_of_two_modalities_is_found_once(bench: Bench) -> None:
    bench.put("1.1")
    bench.archive.has["1.1"]["1.1.2"] = FakeSeries("CR", ["1.1.2.0"])
    wanted = Wanted(DAY - timedelta(1), DAY + timedelta(1), ["DX", "CR"])
    assert bench.run(wanted=wanted)[0].outcome is Outcome.PULLED
    assert len(bench.archive.pulled) == 1


def reasons(bench: Bench, pace: Pace) -> list[str]:
    work = bench.backfill()
    studies = [study for day in work.search() for study in day.new]
    return [step.reason for step in work.run(studies, pace) if isinstance(step, Waiting)]


def test_the_rate_is_kept(bench: Bench) -> None:
    bench.put("1.1", "1.2", "1.3")
    assert reasons(bench, bench.pace(interval=parse_rate("30/min"))) == []
    assert bench.waited == [2.0, 2.0]
    assert bench.archive.closed == 0


def test_a_clock_that_is_put_back_lets_the_rate_wait_once_more_at_most(bench: Bench) -> None:
    pace = bench.pace(interval=parse_rate("30/min"))
    assert list(pace.waits(bench.wait)) == []
    bench.clock.move(-86_400)
    assert list(pace.waits(bench.wait)) == []
    assert bench.waited == [2.0]


def test_no_association_is_kept_while_it_waits_for_long(bench: Bench) -> None:
    bench.put("1.1", "1.2", "1.3")
    assert reasons(bench, bench.pace(interval=parse_rate("1/min"))) == ["the rate"] * 2
    assert bench.waited == [60.0, 60.0]
    assert bench.archive.closed == 2


def test_it_waits_for_the_hours(bench: Bench) -> None:
    bench.put("1.1")
    local = bench.clock.now().astimezone()
    begin = (local + timedelta(minutes=10)).time()
    hours = Hours(begin, (local + timedelta(minutes=20)).time())
    assert reasons(bench, bench.pace(hours=hours)) == [f"it is not {hours} yet"]
    assert 600 <= sum(bench.waited) <= 630


def test_it_waits_while_many_jobs_wait(bench: Bench) -> None:
    bench.put("1.1", "1.2")
    bench.run()
    bench.analyse("1.1")
    bench.put("1.3")
    waits = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        if len(waits) == 3:
            with bench.database.write() as session:
                for job in session.query(Job):
                    session.delete(job)
        return False

    assert list(bench.pace(most_queued=1).waits(wait)) == ["1 jobs or more wait for a worker"]
    assert len(waits) == 3


def test_it_waits_while_the_disk_is_low(bench: Bench) -> None:
    node = {"ae_title": "AINODE", "data_dir": "data", "warn_free_mb": 10**12}
    bench.config = config_in(bench.config.node.data_dir.parent, node=node)
    waits = bench.pace().waits(lambda seconds: True)
    assert next(waits).startswith("the disk is low")


@pytest.mark.parametrize(
    ("text", "at", "holds"),
    [
        ("20:00-06:00", "23:00", True),
        ("20:00-06:00", "05:59", True),
        ("20:00-06:00", "06:00", False),
        ("20:00-06:00", "12:00", False),
        ("08:00-12:30", "08:00", True),
        ("08:00-12:30", "12:30", False),
    ],
)
def test_hours_may_go_over_midnight(text: str, at: str, holds: bool) -> None:
    assert Hours.parse(text).hold(time.fromisoformat(at)) is holds


@pytest.mark.parametrize(
    "text", ["nights", "20:00", "20:00-06:00-07:00", "08:00-08:00", "20:00Z-06:00Z"]
)
def test_hours_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--hours"):
        Hours.parse(text)


def test_rates_are_read() -> None:
    assert parse_rate("30/min") == timedelta(seconds=2)
    assert parse_rate(" 200 / h ") == timedelta(seconds=18)
    for text in ("0/min", "30", "fast", "-1/h"):
        with pytest.raises(ConfigError, match="--rate"):
            parse_rate(text)


def test_body_parts_are_those_of_the_vocabulary() -> None:
    assert regions_of(["Knie", "hip"]) == {"knee", "hip"}
    with pytest.raises(ConfigError, match="elbo"):
        regions_of(["elboww-joint-thing"])
