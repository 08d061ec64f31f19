"""Studies of before revision 0007 are found and listed after it, and it can be taken back."""

from __future__ import annotations

import json
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect, text

import dicom_node.store
from dicom_node.store.database import Database


def test_old_studies_get_their_headline_and_their_words(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'old.sqlite3'}")
    engine = create_engine(database.url)
    config = Config()
    folder = Path(str(dicom_node.store.__file__)).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    header = {"PatientName": "Müller^Ann", "PatientID": "M1", "StudyDate": "20260131"}
    at = "2026-01-31 10:00:00.000000"
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0006")
        connection.execute(
            text(
                "INSERT INTO studies (id, study_instance_uid, state, first_instance_at,"
                " last_instance_at, revision, routed_revision, lost_workers)"
                " VALUES (1, '1.2.3', 'settled', :at, :at, 1, 1, 0)"
            ),
            {"at": at},
        )
        connection.execute(
            text("INSERT INTO series (id, study_id, series_instance_uid) VALUES (1, 1, '1.2.3.1')")
        )
        connection.execute(
            text(
                "INSERT INTO instances (study_id, series_id, sop_instance_uid, sop_class_uid,"
                " transfer_syntax_uid, path, sha256, sender, received_at, attributes)"
                " VALUES (1, 1, '1.2.3.1.1', '1.2', '1.2', 'x', 'y', 'XR', :at, :header)"
            ),
            {"at": at, "header": json.dumps(header)},
        )
        command.upgrade(config, "0007")
        row = connection.execute(text("SELECT patient_name, study_date, sender FROM studies")).one()
        assert tuple(row) == ("Müller^Ann", "20260131", "XR")
        words = connection.execute(text("SELECT word FROM study_words ORDER BY word")).scalars()
        assert list(words) == ["ann", "m1", "muller"]
        command.downgrade(config, "0006")
        assert "users" not in inspect(connection).get_table_names()
        left = connection.execute(text("SELECT study_instance_uid, state FROM studies")).one()
        assert tuple(left) == ("1.2.3", "settled")
    engine.dispose()
    database.close()
