"""`config …` and `reload` at the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.config import load_config
from dicom_node.store.database import Database
from tests.unit.cli.command import Ended, dicom_node

TEXT = """\
node: {ae_title: AINODE, host: 127.0.0.1, data_dir: data}  # ours
peers:
  pacs: {ae_title: PACS, host: 127.0.0.1, port: 104}
accept_from: [pacs]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "node.yaml"
    file.write_text(TEXT)
    database = Database(load_config(file).database_url)
    database.migrate()
    database.close()
    return file


def run(file: Path, *arguments: object) -> Ended:
    return dicom_node(*arguments, "--config", file)


def new(file: Path, text: str) -> Path:
    path = file.with_name("new.yaml")
    path.write_text(text)
    return path


def test_a_text_is_checked_and_each_mistake_told_with_its_line(file: Path) -> None:
    good = run(file, "config", "check", new(file, TEXT + "settle: {quiet_seconds: 5}\n"))
    assert (good.status, good.out) == (0, "ok   it can be applied\n")
    bad = run(file, "config", "check", new(file, TEXT.replace("pacs]", "pac]")))
    assert bad.status == 2
    assert "new.yaml:4: accept_from[0]" in bad.err.replace("node.yaml", "new.yaml")
    assert "did you mean `pacs`?" in bad.err


def test_a_change_is_compared_applied_listed_and_taken_back(file: Path) -> None:
    text = TEXT.replace("port: 104", "port: 105")
    path = new(file, text)
    compared = run(file, "config", "diff", path)
    assert "+  pacs: {ae_title: PACS, host: 127.0.0.1, port: 105}" in compared.out
    assert "changed 0 of the last 0 studies" in compared.out
    assert file.read_text() == TEXT

    applied = run(file, "config", "apply", path, "--why", "it has moved")
    assert applied.status == 0
    assert "nothing runs here: the file is taken at the next start" in applied.out
    assert file.read_text() == text

    lines = run(file, "config", "history", "--json").json
    assert [line["why"] for line in lines] == ["it has moved", "found in the file"]
    assert "it has moved" in run(file, "config", "history").out

    back = run(file, "config", "rollback", lines[1]["id"], "--why", "it has not")
    assert back.status == 0
    assert file.read_text() == TEXT


def test_a_change_is_not_applied_to_another_text_than_it_was_compared_with(file: Path) -> None:
    path = new(file, TEXT.replace("port: 104", "port: 105"))
    compared = run(file, "config", "diff", path)
    base = compared.out.split("--base ")[1].strip()
    assert len(base) == 12
    assert run(file, "config", "diff", path, "--json").json["base"].startswith(base)
    by_hand = TEXT + "settle: {quiet_seconds: 5}\n"
    file.write_text(by_hand)
    refused = run(file, "config", "apply", path, "--why", "it has moved", "--base", base)
    assert refused.status == 2
    assert "changed meanwhile" in refused.err
    assert file.read_text() == by_hand

    base = run(file, "config", "diff", path).out.split("--base ")[1].strip()
    applied = run(file, "config", "apply", path, "--why", "it has moved", "--base", base.upper())
    assert applied.status == 0
    assert file.read_text() == path.read_text()
    number = run(file, "config", "history", "--json").json[-1]["id"]
    back = run(file, "config", "rollback", number, "--why", "it has not", "--base", base)
    assert back.status == 2
    assert "changed meanwhile" in back.err
    assert file.read_text() == path.read_text()


@pytest.mark.parametrize("base", ["abc", "a" * 65, "not-a-digest"])
def test_a_base_that_is_no_digest_is_refused(file: Path, base: str) -> None:
    path = new(file, TEXT + "# x\n")
    ended = run(file, "config", "apply", path, "--why", "x", "--base", base)
    assert ended.status == 2
    assert "config diff" in ended.err
    assert file.read_text() == TEXT


def test_a_reload_where_nothing_runs_says_so(file: Path) -> None:
    ended = run(file, "reload")
    assert ended.status == 1
    assert "nothing runs here" in ended.out


def test_a_reason_is_asked_for(file: Path) -> None:
    ended = run(file, "config", "apply", new(file, TEXT + "# x\n"), "--why", " ")
    assert ended.status == 2
    assert "no reason is given" in ended.err


def test_the_history_names_who_is_behind_sudo(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "root")
    monkeypatch.setenv("SUDO_USER", "kim")
    path = new(file, TEXT.replace("port: 104", "port: 105"))
    assert run(file, "config", "apply", path, "--why", "it has moved").status == 0
    (now, _) = run(file, "config", "history", "--json").json
    assert now["by"] == "kim (command line)"
