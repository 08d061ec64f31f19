"""`users`: who may use the dashboard, from the first admin to a script's token."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.store import accounts, sessions
from tests.unit.cli.command import Ended, dicom_node
from tests.unit.cli.conftest import DONE, Ran


def run(ran: Ran, *arguments: object) -> Ended:
    return dicom_node("users", *arguments, "--config", ran.config_file)


@pytest.fixture
def password(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text("a long enough password\nnot this line\n")
    return file


def test_users_are_added_listed_and_removed(ran: Ran, password: Path) -> None:
    assert "no users yet" in run(ran, "list").out
    added = run(ran, "add", "anna", "--role", "admin", "--password-file", password)
    assert (added.status, added.out) == (0, "added: anna, admin\n")
    (line,) = run(ran, "list", "--json").json
    assert (line["name"], line["role"], line["by"]) == ("anna", "admin", "password")
    assert "anna" in run(ran, "list").out
    assert run(ran, "remove", "anna").status == 0
    assert run(ran, "list", "--json").json == []
    assert run(ran, "remove", "anna").status == 1


def test_the_password_of_the_file_is_the_user_s_and_is_not_kept(ran: Ran, password: Path) -> None:
    run(ran, "add", "anna", "--password-file", password)
    with ran.database.read() as session:
        kept = accounts.find(session, "anna").password_hash
    assert kept is not None
    assert kept.startswith("$argon2id$")
    assert accounts.is_password("a long enough password", kept)
    password.write_text("quite another password")
    assert run(ran, "passwd", "anna", "--password-file", password).status == 0
    with ran.database.read() as session:
        kept = accounts.find(session, "anna").password_hash
    assert not accounts.is_password("a long enough password", kept)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("anna", "short", "it has 5 characters"),
        ("anna", "", "it is empty"),
        ("an na", "a long enough password", "a name has letters"),
    ],
)
def test_what_cannot_be_a_user_is_refused(
    ran: Ran, password: Path, name: str, text: str, why: str
) -> None:
    password.write_text(text)
    ended = run(ran, "add", name, "--password-file", password)
    assert ended.status == 1
    assert why in ended.err


def test_a_name_is_taken_in_whatever_case(ran: Ran, password: Path) -> None:
    run(ran, "add", "anna", "--password-file", password)
    assert "the name is taken" in run(ran, "add", "Anna", "--password-file", password).err


def test_without_a_terminal_the_password_comes_from_a_file(ran: Ran) -> None:
    assert "--password-file" in run(ran, "add", "anna").err


def test_a_token_is_printed_once_and_revoked(ran: Ran, password: Path) -> None:
    run(ran, "add", "anna", "--role", "operator", "--password-file", password)
    token = run(ran, "token", "anna", "--label", "report").out.strip()
    with ran.database.read() as session:
        assert sessions.user_of_token(session, token) is not None
    (line,) = run(ran, "tokens", "--json").json
    assert (line["label"], line["role"]) == ("report", "viewer")
    assert token not in run(ran, "tokens").out
    more = run(ran, "token", "anna", "--label", "x", "--role", "admin")
    assert (more.status, "the user is operator only" in more.err) == (1, True)
    assert run(ran, "revoke", line["id"]).status == 0
    with ran.database.read() as session:
        assert sessions.user_of_token(session, token) is None
    assert run(ran, "tokens").out == "no tokens\n"


def test_a_person_puts_a_study_aside(ran: Ran) -> None:
    given = ("--reason", "the ward is asked", "--config", ran.config_file)
    assert dicom_node("hold", DONE, *given).out == f"held: study {DONE}\n"
    assert "by_person" in dicom_node("held", "--config", ran.config_file).out
    again = dicom_node("hold", DONE, *given)
    assert (again.status, "it is held already" in again.err) == (1, True)


def test_a_password_file_that_is_no_text_is_told(ran: Ran, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b"\xff\xfe secret of many signs")
    ended = run(ran, "add", "anna", "--password-file", str(file))
    assert (ended.status, "it is not UTF-8 text" in ended.err) == (2, True)
