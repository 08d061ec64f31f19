"""What is measured at the machine for the alerts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.model.states import StudyState
from dicom_node.serve.locks import hold
from dicom_node.serve.measure import ClockWatch, FileWatch, certificate_ends, roles_down
from dicom_node.store.database import Database
from dicom_node.store.tables import Instance, Series, Study
from tests.factories import ManualClock
from tests.peers.certificates import make_certificates
from tests.unit.serve.small_node import config_in


def test_a_clock_that_is_set_is_noticed_for_ten_minutes(clock: ManualClock) -> None:
    steady = [0.0]
    watch = ClockWatch(clock, 5, lambda: steady[0])

    def look(wall: float, passed: float) -> float:
        clock.move(wall)
        steady[0] += passed
        return watch.look()

    assert [look(0, 0), look(30, 30), look(31, 30)] == [0, 0, 0]
    assert look(-3570, 30) == pytest.approx(-3600)
    assert look(300, 300) == pytest.approx(-3600)
    assert look(300, 300) == 0


def put_instances(database: Database, folder: Path, number: int) -> None:
    now = ManualClock().now()
    with database.write() as session:
        study = Study(
            study_instance_uid="1.2",
            state=StudyState.SETTLED,
            first_instance_at=now,
            last_instance_at=now,
        )
        session.add(study)
        session.flush()
        series = Series(study_id=study.id, series_instance_uid="1.2.1")
        session.add(series)
        session.flush()
        for index in range(number):
            session.add(
                Instance(
                    study_id=study.id,
                    series_id=series.id,
                    sop_instance_uid=f"1.2.1.{index}",
                    sop_class_uid="1",
                    transfer_syntax_uid="1",
                    path=f"{index}.dcm",
                    sha256="",
                    sender="",
                    received_at=now,
                    attributes={},
                )
            )
            (folder / f"{index}.dcm").touch()


def test_files_that_are_gone_are_found_round_by_round(tmp_path: Path, database: Database) -> None:
    config = config_in(tmp_path)
    config.spool_dir.mkdir(parents=True, exist_ok=True)
    put_instances(database, config.spool_dir, 450)
    watch = FileWatch(config, database)
    assert [watch.look() for _ in range(4)] == [0, 0, 0, 0]
    for index in (3, 300):
        (config.spool_dir / f"{index}.dcm").unlink()
    assert [watch.look() for _ in range(3)][-1] == 2
    (config.spool_dir / "3.dcm").touch()
    assert watch.look() == 1, "it has come again"
    with database.write() as session:
        session.get_one(Instance, 301).purged_at = ManualClock().now()
    assert watch.look() == 0, "retention has taken it"


def test_what_the_supervisor_should_run_and_does_not(tmp_path: Path) -> None:
    config = config_in(tmp_path, inference={"workers": 2})
    assert roles_down(config) == [], "without a supervisor nobody knows"
    names = ("supervisor", "receiver-0", "worker-1")
    held = [hold(config.node.data_dir, name) for name in names]
    assert roles_down(config) == ["coordinator", "worker-0"]
    for item in held:
        assert item is not None
        item.close()


def test_our_certificates_and_their_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_certificates(tmp_path / "certificates")
    (tmp_path / "spoilt.pem").write_text("no certificate")
    config = config_in(
        tmp_path,
        receive={"tls": {"certificate": str(made.server.certificate), "key": str(made.server.key)}},
        audit={"syslog": "arr", "certificate": "spoilt.pem", "key": "spoilt.pem"},
        web={"tls": {"certificate": str(made.server.certificate), "key": str(made.server.key)}},
        alerts={
            "channels": {
                "duty": {
                    "syslog": "siem",
                    "certificate": str(made.server.certificate),
                    "key": str(made.server.key),
                },
                "team": {"webhook": "https://chat.example/x"},
            }
        },
    )
    ends = certificate_ends(config)
    assert list(ends) == ["of receive.tls", "of web.tls", "for the alert channel duty"]
    assert ends["of receive.tls"] > datetime.now(UTC) + timedelta(hours=1)
    assert "certificate_not_read" in capsys.readouterr().out
