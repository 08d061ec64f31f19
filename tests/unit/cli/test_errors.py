"""What goes wrong is told with what, why and fix, on standard error, and with the right status."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from sqlalchemy.exc import OperationalError

from dicom_node import __version__
from dicom_node.cli import look
from dicom_node.config import load_config
from dicom_node.store.database import Database
from tests.unit.cli.command import dicom_node
from tests.unit.serve.small_node import write_config


def test_a_bad_configuration_names_every_mistake_with_file_line_what_why_and_fix(
    tmp_path: Path,
) -> None:
    file = tmp_path / "node.yaml"
    file.write_text(
        "node:\n"
        "  ae_title: AINODE\n"
        "  data_dir: data\n"
        "  prot: 104\n"
        "accept_from: [xray]\n"
        "settle: {quiet_seconds: -1}\n"
    )
    ended = dicom_node("serve", "--config", file)
    assert ended.status == 2
    assert ended.out == ""
    lines = ended.err.splitlines()
    assert lines[0] == f"{file}:4: node.prot: unknown key `prot`"
    assert lines[1] == "    fix: did you mean `port`?"
    assert lines[2].startswith(f"{file}:6: settle.quiet_seconds: ")
    assert "(found: -1)" in lines[2]
    assert lines[3] == "    fix: write a number in the range"


@pytest.mark.parametrize(
    "command",
    [
        "serve",
        "serve --role worker",
        "check",
        "status",
        "jobs",
        "retry 1",
        "send . pacs",
        "route --explain .",
    ],
)
def test_a_configuration_that_is_not_there_is_a_mistake_of_usage(
    tmp_path: Path, command: str
) -> None:
    ended = dicom_node(*command.split(), "--config", tmp_path / "node.yaml")
    assert ended.status == 2
    assert "there is no such file" in ended.err
    assert "fix: " in ended.err


def test_a_route_to_a_pipeline_that_is_not_there_is_found_before_anything_starts(
    tmp_path: Path,
) -> None:
    route = {"name": "knees", "run": ["knee_kl_ensembel"], "send_to": ["pacs"]}
    ended = dicom_node("serve", "--config", write_config(tmp_path, routes=[route]))
    assert ended.status == 2
    assert "did you mean `knee_kl_ensemble`?" in ended.err
    assert not (tmp_path / "data" / "node.sqlite3").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["status", "--bogus"], "No such option"),
        (["retry", "twelve"], "Invalid value for 'job'"),
        (["serve", "--role"], "requires an argument"),
    ],
)
def test_wrong_usage_is_told_plainly_with_status_2(arguments: list[str], told: str) -> None:
    ended = dicom_node(*arguments)
    assert ended.status == 2
    assert told in ended.err
    assert "╭" not in ended.err


def test_an_unknown_role_names_those_there_are(tmp_path: Path) -> None:
    ended = dicom_node("serve", "--role", "boss", "--config", write_config(tmp_path, routes=[]))
    assert ended.status == 2
    assert "receiver, coordinator, worker" in ended.err


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OperationalError("UPDATE x SET y = ?", {"y": "Doe^Jane"}, Exception("disk I/O error")),
            "database: disk I/O error",
        ),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/var/x"), "/var/x: No space left"),
        (KeyError("Doe^Jane"), "dicom-node: a mistake of its own: KeyError at "),
        (RecursionError(), "a mistake of its own: RecursionError"),
    ],
)
def test_whatever_is_raised_reaches_the_user_without_a_traceback_or_a_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def raises(*_: object) -> None:
        raise error

    monkeypatch.setattr(look, "config_now", raises)
    ended = dicom_node("status", "--config", write_config(tmp_path))
    assert ended.status == 1
    assert told in ended.err
    assert "    fix: " in ended.err
    assert "Doe" not in ended.err


@pytest.mark.database_file
def test_a_data_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    ended = dicom_node("status", "--config", write_config(tmp_path))
    assert ended.status == 1
    assert "node.data_dir" in ended.err


def test_the_version_is_told() -> None:
    assert dicom_node("--version").out == f"dicom-node {__version__}\n"


@pytest.mark.parametrize(
    "command",
    ["serve", "check", "status", "jobs", "retry", "send", "demo", "pipelines list", "route"],
)
def test_every_command_has_help_with_an_example(command: str) -> None:
    ended = dicom_node(*command.split(), "--help")
    assert ended.status == 0
    assert f"Example: dicom-node {command}" in ended.out


def test_check_prints_each_finding_with_its_fix_and_fails_when_one_does(tmp_path: Path) -> None:
    file = write_config(tmp_path, routes=[], peers={}, accept_from="anyone")
    ended = dicom_node("check", "--config", file)
    assert ended.status == 0
    assert "warn  accept_from: anyone may send" in ended.out
    assert "      fix: name the peers that may send" in ended.out
    assert "\x1b" not in ended.out
    config = yaml.safe_load(file.read_text())
    config["node"]["min_free_mb"] = 10**12
    file.write_text(yaml.safe_dump(config))
    ended = dicom_node("check", "--config", file)
    assert ended.status == 1
    assert "fail  disk: " in ended.out
    assert ended.lines[-1].endswith("1 fail")
    found = dicom_node("check", "--config", file, "--json")
    assert found.status == 1
    assert {"name", "level", "seen", "fix"} == set(found.json[0])


@pytest.mark.parametrize(
    "command",
    ["jobs --limit", "status --limit", "audit list --limit", "retry", "users revoke"],
)
def test_a_number_that_no_database_holds_is_a_mistake_of_usage(
    tmp_path: Path, command: str
) -> None:
    config = write_config(tmp_path, routes=[])
    with closing(Database(load_config(config).database_url)) as database:
        database.migrate()
    ended = dicom_node(*command.split(), "99999999999999999999", "--config", config)
    assert ended.status == 2
    assert "less than or equal to" in ended.err


@pytest.mark.parametrize("command", ["config diff", "config apply --why x"])
def test_a_file_that_is_not_there_is_told_as_such(tmp_path: Path, command: str) -> None:
    config = write_config(tmp_path, routes=[])
    ended = dicom_node(*command.split(), tmp_path / "new.yaml", "--config", config)
    assert ended.status == 2
    assert ended.err.startswith(f"{tmp_path / 'new.yaml'}: there is no such file")
