"""`status` and `jobs`: what became of every study, readable on a terminal and in a pipe."""

from __future__ import annotations

import re
from datetime import datetime
from io import StringIO

import pytest

from dicom_node.cli import look
from dicom_node.serve.locks import hold_numbered
from dicom_node.store.tables import Job
from dicom_node.terminal import NodeConsole
from tests.unit.cli.command import dicom_node
from tests.unit.cli.conftest import COMING, DECLINED, DONE, FAILED, UNWANTED, Ran

_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d")


def status(ran: Ran, *arguments: str, **environment: str):  # type: ignore[no-untyped-def]
    return dicom_node("status", *arguments, "--config", ran.config_file, **environment)


def listed(ran: Ran, *arguments: str, **environment: str):  # type: ignore[no-untyped-def]
    return dicom_node("jobs", *arguments, "--config", ran.config_file, **environment)


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> StringIO:
    """Let the commands print as to a terminal of that width."""
    screen = StringIO()
    terminal = NodeConsole(
        file=screen, force_terminal=True, color_system="standard", width=columns, highlight=False
    )
    monkeypatch.setattr(look, "console", terminal)
    return screen


def test_status_begins_with_whether_the_node_runs_and_what_waits(ran: Ran) -> None:
    (ran.data_dir / "spool" / "inbox").mkdir(parents=True)
    (ran.data_dir / "spool" / "inbox" / "a.dcm").touch()
    (ran.data_dir / "spool" / "aside").mkdir()
    (ran.data_dir / "spool" / "aside" / "b.dcm").touch()
    assert status(ran).lines[:7] == [
        f"running: nothing runs on {ran.data_dir}",
        "spool: 1 file not indexed yet",
        f"set aside: 1 file in {ran.data_dir / 'spool' / 'aside'}",
        "studies: 1 receiving, 4 settled; 1 that no route wanted",
        "jobs: 1 done, 1 failed, 1 not_evaluated",
        "to pacs: 1 failed, 2 pending, 1 sent",
        f"{'study':<56}  images  from  state      last image",
    ]
    with hold_numbered(ran.data_dir, "worker"):
        assert status(ran).lines[0].startswith("running: worker (process ")


def test_each_study_has_its_fate_below_it_newest_first(ran: Ran) -> None:
    text = status(ran).out
    places = [text.index(uid) for uid in (COMING, UNWANTED, DECLINED, FAILED, DONE)]
    assert places == sorted(places)
    after = {
        uid: text[text.index(uid) :].splitlines() for uid in (UNWANTED, DECLINED, FAILED, DONE)
    }
    assert after[UNWANTED][1:3] == [
        "    no route wanted it: “knees”: modality is MR, not CR or DX",
        "    or: “hips”: modality is MR",
    ]
    assert after[FAILED][1:3] == [
        "    job 2: hip failed",
        "    pipeline hip: its weights [/opt/w] cannot be read (restore the file)",
    ]
    assert after[DECLINED][1:3] == [
        "    job 3: knee not_evaluated; SR, SC to pacs pending",
        "    Not evaluated: not an AP view.",
    ]
    assert (
        "pacs after 1 try: no association: the connection failed; again at 20"
        in (after[DECLINED][3])
    )
    assert after[DONE][1] == "    job 1: knee done; SR to pacs sent; SC to pacs failed"
    assert after[DONE][2] == "    pacs after 1 try: status 0xA700 (Failure): [disk full]"


def test_what_was_left_out_of_a_result_is_told_with_the_job(ran: Ran) -> None:
    with ran.database.write() as session:
        job = session.get_one(Job, 1)
        job.run_record = {"left_out": [{"kind": "SEG", "why": "no pixel spacing"}]}
    for shown in (status(ran), status(ran, DONE), listed(ran)):
        assert "left out SEG: no pixel spacing" in shown.out
    (told,) = status(ran, DONE, "--json").json["studies"]
    assert told["jobs"][0]["left_out"] == ["SEG: no pixel spacing"]


@pytest.mark.parametrize("command", ["status", "jobs"])
@pytest.mark.parametrize("columns", [80, 160])
def test_on_a_terminal_no_line_is_longer_than_it_and_a_uid_keeps_its_ends(
    ran: Ran, command: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = on_a_terminal(monkeypatch, columns)
    dicom_node(command, "--config", ran.config_file)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
    assert plain != screen.getvalue()
    shown = [line for line in plain.splitlines() if str(ran.data_dir) not in line]
    assert max(map(len, shown)) <= columns
    if columns == 160:
        assert DONE in plain
    else:
        found = re.search(r"1\.2\.\S*…\S*", plain)
        assert found is not None
        head, tail = found.group().split("…")
        assert DONE.startswith(head)
        assert any(uid.endswith(tail) for uid in (COMING, DECLINED))
        assert len(found.group()) >= 16


def test_wide_never_shortens(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = on_a_terminal(monkeypatch, 80)
    status(ran, "--wide")
    (line,) = [line for line in screen.getvalue().splitlines() if line.startswith(DONE)]
    assert _TIME.search(line), "the last column is there, too"


@pytest.mark.parametrize("command", ["status", "jobs", "pipelines list"])
def test_in_a_pipe_lines_are_plain_and_whole(ran: Ran, command: str) -> None:
    ended = dicom_node(*command.split(), "--config", ran.config_file)
    assert ended.status == 0
    assert "\x1b" not in ended.out
    assert "…" not in ended.out


def test_times_are_local_with_their_offset(ran: Ran) -> None:
    shown = _TIME.search(status(ran).out)
    assert shown is not None
    told = datetime.fromisoformat(shown.group())
    assert told.utcoffset() == told.replace(tzinfo=None).astimezone().utcoffset()


def test_status_as_json_has_everything_whole(ran: Ran) -> None:
    told = status(ran, "--json").json
    assert told["counts"]["unrouted"] == 1
    assert told["running"] == {}
    assert [study["study_uid"] for study in told["studies"]] == [
        COMING,
        UNWANTED,
        DECLINED,
        FAILED,
        DONE,
    ]
    (job,) = told["studies"][4]["jobs"]
    assert job["deliveries"][1]["answer"] == "status 0xA700 (Failure): [disk full]"
    assert datetime.fromisoformat(job["finished_at"]).utcoffset() is not None


def test_the_status_of_one_study_tells_its_story(ran: Ran) -> None:
    ended = status(ran, DONE)
    assert FAILED not in ended.out
    told = ["began to send it", "Complete: no image", " queued on ", " is done", "stored an object"]
    places = [ended.out.index(words) for words in told]
    assert places == sorted(places)
    assert "{" not in ended.out
    kinds = ["study_begun", "study_settled"]
    assert [event["kind"] for event in status(ran, DONE, "--json").json["events"]][:2] == kinds


def test_the_status_of_an_unknown_study_says_so(ran: Ran) -> None:
    ended = status(ran, "1.2.3")
    assert ended.status == 1
    assert ended.err.splitlines() == [
        "study 1.2.3: it is not in the index",
        "    fix: see `dicom-node status` for those that are",
    ]


def test_status_shows_as_many_studies_as_asked_for(ran: Ran) -> None:
    assert len(status(ran, "--limit", "2", "--json").json["studies"]) == 2
    assert status(ran, "--limit", "0").status == 2


@pytest.mark.database_file
@pytest.mark.parametrize("command", ["status", "jobs", "retry 1"])
def test_a_node_that_never_ran_is_told_and_nothing_is_made(ran: Ran, command: str) -> None:
    ran.database.close()
    for file in ran.data_dir.glob("node.sqlite3*"):
        file.unlink()
    ended = dicom_node(*command.split(), "--config", ran.config_file)
    assert ended.status == 1
    assert "there is none yet" in ended.err
    assert "dicom-node serve" in ended.err
    assert list(ran.data_dir.glob("node.sqlite3*")) == []


def test_tables_of_another_version_are_left_alone(ran: Ran) -> None:
    with ran.database.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM alembic_version")
    ended = status(ran)
    assert ended.status == 1
    needed = ran.database.revision()[1]
    assert f"its tables are of revision none, this version needs {needed}" in ended.err
    with ran.database.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('9999')")
    assert "newer dicom-node" in status(ran).err


def test_jobs_are_listed_newest_first_with_result_or_error(ran: Ran) -> None:
    lines = listed(ran).lines
    assert lines[0].split() == ["job", "state", "pipeline", "study"]
    heads = [line.split() for line in lines if not line.startswith(" ")][1:]
    assert heads == [
        ["3", "not_evaluated", "knee", DECLINED],
        ["2", "failed", "hip", FAILED],
        ["1", "done", "knee", DONE],
    ]
    assert "    Right knee: grade 2." in lines
    assert "    pipeline hip: its weights [/opt/w] cannot be read (restore the file)" in lines
    assert sum("; 1 try" in line for line in lines) == 3


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        (["--state", "failed"], [2]),
        (["--pipeline", "knee"], [3, 1]),
        (["--study", DONE], [1]),
        (["--pipeline", "knee", "--state", "not_evaluated"], [3]),
        (["--limit", "1"], [3]),
        (["--state", "running"], []),
    ],
)
def test_jobs_can_be_filtered(ran: Ran, filters: list[str], ids: list[int]) -> None:
    assert [job["id"] for job in listed(ran, *filters, "--json").json] == ids
    shown = listed(ran, *filters)
    assert shown.status == 0
    if not ids:
        assert shown.out == "no job fits\n"


def test_a_state_that_there_is_not_names_those_there_are(ran: Ran) -> None:
    ended = listed(ran, "--state", "broken")
    assert ended.status == 2
    assert "not_evaluated" in ended.err
