"""What a server refuses is told with its way out, and never with a password or a patient's data."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from dicom_node.demo.ports import free_port
from dicom_node.errors import StoreError
from dicom_node.store import index, search
from dicom_node.store.database import Database
from dicom_node.store.tables import Study
from tests.factories import ManualClock, facts
from tests.peers.postgres import PASSWORD, Postgres


def refused(url: str) -> StoreError:
    database = Database(url)
    try:
        with pytest.raises(StoreError) as caught:
            database.migrate()
        with pytest.raises(StoreError):
            database.check_revision()
    finally:
        database.close()
    assert PASSWORD not in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_wrong_password(postgres: Postgres) -> None:
    error = refused(postgres.url(password="secret"))
    assert "password authentication failed" in error.why
    assert error.fix == "correct the user or the password"
    assert "secret" not in str(error)


def test_a_database_that_is_not_there(postgres: Postgres) -> None:
    error = refused(postgres.url("nowhere"))
    assert '"nowhere" does not exist' in error.why
    assert "create the user and the database" in error.fix


def test_a_server_that_is_away(postgres: Postgres) -> None:
    error = refused(postgres.url().replace(str(postgres.port), str(free_port())))
    assert "refused" in error.why
    assert "runs and can be reached" in error.fix


def test_a_database_that_would_lose_names(postgres: Postgres) -> None:
    with postgres._connect("postgres") as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    error = refused(postgres.url("latin"))
    assert "LATIN1" in error.why
    assert "ENCODING 'UTF8'" in error.fix
    postgres.drop(postgres.url("latin"))


def test_a_url_without_a_driver_means_ours(postgres: Postgres) -> None:
    url = postgres.new_database()
    database = Database(url.replace("postgresql+psycopg:", "postgresql:"))
    database.migrate()
    database.close()
    postgres.drop(url)


def test_a_database_of_another_kind_is_refused() -> None:
    with pytest.raises(StoreError, match=r"none that it can be kept in|not installed"):
        Database("mssql+pyodbc://server/name")


def test_who_hangs_in_a_transaction_does_not_keep_the_others_from_writing(
    postgres: Postgres,
) -> None:
    url = postgres.new_database()
    database = Database(url)
    with database.engine.connect() as connection:
        found = connection.execute(
            text(
                "SELECT current_setting('idle_in_transaction_session_timeout'), "
                "current_setting('lock_timeout'), current_setting('TimeZone')"
            )
        ).one()
    assert tuple(found) == ("2min", "1min", "UTC")
    database.close()
    postgres.drop(url)


def test_a_name_in_any_letters_comes_back_as_it_came(database: Database) -> None:
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう \u0130\x00"
    clock = ManualClock()
    item = facts(PatientName=name, PatientID="A\x00B", StudyDescription="x\x00")
    with database.write() as session:
        index.add_instance(session, index.Arrival(item, "x", "a", clock.now()), clock.now())
    with database.read() as session:
        study = session.get_one(Study, 1)
        assert study.patient_name.rstrip("\0") == name.rstrip("\0")
        assert search.find(session, search.Wanted(text="yamada", with_patients=True)).lines
