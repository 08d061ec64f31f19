"""`dicom-node database`: revision, upgrade, rollback and backup, as an administrator uses them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.config.schema import DATABASE_URL
from dicom_node.errors import StoreError
from dicom_node.serve.locks import hold
from dicom_node.store import audit
from dicom_node.store.backup import back_up
from dicom_node.store.database import Database
from dicom_node.store.tables import AuditEvent, Study
from tests.unit.cli.command import dicom_node
from tests.unit.cli.conftest import Ran


def kinds(database: Database) -> set[str]:
    with database.read() as session:
        return set(session.scalars(select(AuditEvent.kind)))


def studies(database: Database) -> set[str]:
    with database.read() as session:
        return set(session.scalars(select(Study.study_instance_uid)))


@pytest.fixture
def newest(ran: Ran) -> str:
    current, needed = ran.database.revision()
    assert current == needed
    assert needed is not None
    return needed


@pytest.fixture
def on_sqlite(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Ran:
    """A node that has run on SQLite, whatever the other tests run on."""
    monkeypatch.delenv(DATABASE_URL, raising=False)
    ran: Ran = request.getfixturevalue("ran")
    return ran


def test_the_revision_is_told_with_the_one_that_is_needed(ran: Ran, newest: str) -> None:
    ended = dicom_node("database", "revision", "--config", ran.config_file, "--json")
    assert ended.status == 0
    assert ended.json["current"] == ended.json["needed"] == newest


def test_rolled_back_tables_are_upgraded_again_and_both_is_in_the_audit_trail(
    ran: Ran, newest: str
) -> None:
    known = studies(ran.database)
    back = ran.database.older_revisions()[0]
    ended = dicom_node(
        *("database", "rollback", back, "--reason", "a test", "--yes", "--config", ran.config_file)
    )
    assert ended.status == 0
    assert "what the newer ones keep is deleted" in ended.out
    assert ran.database.revision() == (back, newest)

    told = dicom_node("database", "revision", "--config", ran.config_file)
    assert told.status == 1
    assert back in told.out
    assert dicom_node("database", "upgrade", "--config", ran.config_file).status == 0
    assert ran.database.revision() == (newest, newest)
    assert {"database_rollback_asked", "database_upgraded"} <= kinds(ran.database)
    assert studies(ran.database) == known


def test_tables_that_are_up_to_date_are_left_alone(ran: Ran, newest: str) -> None:
    ended = dicom_node("database", "upgrade", "--config", ran.config_file)
    assert ended.lines == [f"the tables are up to date ({newest})"]
    assert "database_upgraded" not in kinds(ran.database)


@pytest.mark.parametrize("to", ["base", "head", "9999"])
def test_only_an_older_revision_can_be_rolled_back_to(ran: Ran, newest: str, to: str) -> None:
    arguments = ("--reason", "a test", "--yes", "--config", ran.config_file)
    ended = dicom_node("database", "rollback", to, *arguments)
    assert ended.status == 1
    assert "there is no such older one" in ended.err
    assert ran.database.revision() == (newest, newest)


def test_nothing_is_rolled_back_while_the_node_runs(ran: Ran, newest: str) -> None:
    back = ran.database.older_revisions()[0]
    held = hold(ran.data_dir, "coordinator")
    assert held is not None
    with held:
        ended = dicom_node(
            *("database", "rollback", back, "--reason", "a test", "--yes"),
            *("--config", ran.config_file),
        )
    assert ended.status == 1
    assert "it runs (coordinator)" in ended.err
    assert ran.database.revision() == (newest, newest)


def test_without_a_yes_nothing_is_rolled_back(ran: Ran, newest: str) -> None:
    back = ran.database.older_revisions()[0]
    ended = dicom_node(
        "database", "rollback", back, "--reason", "a test", "--config", ran.config_file
    )
    assert ended.status == 1
    assert ran.database.revision() == (newest, newest)


def test_a_backup_makes_a_new_node(on_sqlite: Ran, tmp_path: Path) -> None:
    copy = tmp_path / "backup.sqlite3"
    assert dicom_node("database", "backup", copy, "--config", on_sqlite.config_file).status == 0
    assert copy.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.glob("*backup*")] == [copy.name]
    assert "database_backed_up" in kinds(on_sqlite.database)

    new = tmp_path / "new"
    (new / "data").mkdir(parents=True)
    shutil.copy(copy, new / "data" / "node.sqlite3")
    shutil.copy(on_sqlite.config_file, new / "node.yaml")
    jobs = dicom_node("jobs", "--config", new / "node.yaml", "--json")
    assert jobs.status == 0
    assert jobs.json == dicom_node("jobs", "--config", on_sqlite.config_file, "--json").json


def test_a_backup_waits_for_no_transaction_and_has_nothing_of_it(
    on_sqlite: Ran, tmp_path: Path
) -> None:
    known = studies(on_sqlite.database)
    with on_sqlite.database.write() as session:
        audit.record(session, on_sqlite.clock.now(), "not_committed")
        session.flush()
        back_up(on_sqlite.database, tmp_path / "copy")
    copy = Database(f"sqlite:///{tmp_path / 'copy'}")
    try:
        assert studies(copy) == known
        assert "not_committed" not in kinds(copy)
    finally:
        copy.close()


def test_a_backup_overwrites_no_file(on_sqlite: Ran, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("mine")
    ended = dicom_node("database", "backup", there, "--config", on_sqlite.config_file)
    assert ended.status == 1
    assert "it is there already" in ended.err
    assert there.read_text() == "mine"


def test_a_backup_that_cannot_be_written_leaves_nothing(on_sqlite: Ran, tmp_path: Path) -> None:
    ended = dicom_node(
        "database", "backup", tmp_path / "none" / "copy", "--config", on_sqlite.config_file
    )
    assert ended.status == 1
    assert "No such file or directory" in ended.err
    assert "database_backed_up" not in kinds(on_sqlite.database)


def test_a_server_s_database_is_left_to_the_server_s_own_tools(tmp_path: Path) -> None:
    server = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")
    try:
        with pytest.raises(StoreError, match="it is not SQLite") as raised:
            back_up(server, tmp_path / "copy")
    finally:
        server.close()
    assert "pg_dump" in raised.value.fix
    assert list(tmp_path.iterdir()) == []


def test_a_copy_that_is_broken_is_no_backup(tmp_path: Path) -> None:
    file = tmp_path / "node.sqlite3"
    database = Database(f"sqlite:///{file}")
    try:
        database.migrate()
        with database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        pages = file.stat().st_size // 4096
        with file.open("r+b") as opened:
            opened.seek((pages // 2) * 4096)
            opened.write(b"\xff" * 4096)
        with pytest.raises(StoreError, match="backup"):
            back_up(database, tmp_path / "copy")
    finally:
        database.close()
    assert not [path for path in tmp_path.iterdir() if "copy" in path.name]


def test_everything_is_copied_into_an_empty_database_of_a_node_that_is_stopped(
    ran: Ran, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'new.sqlite3'}"
    arguments = ("database", "copy", "--to", url, "--config", ran.config_file)
    held = hold(ran.data_dir, "coordinator")
    assert held is not None
    with held:
        assert "it runs (coordinator)" in dicom_node(*arguments).err

    copied = dicom_node(*arguments)

    assert copied.status == 0, copied.err
    assert "studies: " in copied.out
    new = Database(url)
    assert studies(new) == studies(ran.database)
    new.close()
    again = dicom_node(*arguments)
    assert again.status == 1
    assert "is not empty" in again.err
