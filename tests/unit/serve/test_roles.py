"""The roles: each says why it cannot run, and one data folder has one node."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom.config
import pytest
from structlog.testing import capture_logs

from dicom_node.demo.ports import free_port
from dicom_node.errors import ConfigError, NodeError, StoreError
from dicom_node.serve import roles
from dicom_node.serve.live import Live
from dicom_node.serve.locks import hold, holders
from dicom_node.store.database import Database
from tests.peers.ports import listens, wait_for
from tests.unit.serve.small_node import config_in, write_config

Role = Callable[[Live, Database], None]

NO_ROUTES: dict[str, Any] = {"routes": []}


@pytest.fixture(autouse=True)
def quiet_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the logging, the signals nor pydicom of the test process are changed."""
    checks = pydicom.config.settings.reading_validation_mode
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", checks)
    monkeypatch.setattr(roles, "set_up_logging", lambda _: None)
    monkeypatch.setattr(roles, "stop_with_parent", lambda _: None)
    monkeypatch.setattr(roles, "on_hangup", lambda _: None)


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, role: Role) -> tuple[int, list[Any]]:
    monkeypatch.setitem(roles.ROLES, "worker", role)
    with capture_logs() as logs:
        return roles.serve_role(write_config(folder, **NO_ROUTES), "worker"), logs


def test_a_role_that_ends_has_status_0(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    status, logs = run(monkeypatch, tmp_path, lambda *_: None)
    assert status == 0
    assert logs[-1]["event"] == "role_ended"


def test_a_role_that_fails_logs_what_why_and_fix_and_has_status_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(*_: object) -> None:
        raise NodeError("port 127.0.0.1:104", "Permission denied", "choose another")

    status, logs = run(monkeypatch, tmp_path, fails)
    assert status == 1
    assert logs[-1]["event"] == "role_failed"
    assert (logs[-1]["what"], logs[-1]["why"], logs[-1]["fix"]) == (
        "port 127.0.0.1:104",
        "Permission denied",
        "choose another",
    )


def test_a_role_that_crashes_logs_the_place_and_no_value(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def crashes(*_: object) -> None:
        raise KeyError("Doe^Jane")

    status, logs = run(monkeypatch, tmp_path, crashes)
    assert status == 1
    assert (logs[-1]["event"], logs[-1]["error"]) == ("role_crashed", "KeyError")
    assert "test_roles.py:" in logs[-1]["where"]
    assert "Doe" not in str(logs)


def test_a_wrong_configuration_is_the_command_line_s_to_tell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError):
        roles.serve_role(write_config(tmp_path, settle={"quiet_secs": 3}), "worker")


def test_an_unknown_role_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="receiver, coordinator, worker"):
        roles.serve_role(tmp_path / "node.yaml", "reciever")


def test_a_second_node_on_a_data_folder_is_refused(tmp_path: Path) -> None:
    file = write_config(tmp_path, **NO_ROUTES)
    held = hold(tmp_path / "data", "supervisor")
    assert held is not None
    with held, pytest.raises(StoreError, match="another `dicom-node serve`") as told:
        roles.serve(file)
    assert "stop that one" in told.value.fix


def test_a_second_coordinator_waits_for_the_first_to_end(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_in(tmp_path, **NO_ROUTES)
    stop = threading.Event()
    first = hold(config.node.data_dir, "coordinator")
    assert first is not None
    ran = threading.Event()
    monkeypatch.setattr(
        "dicom_node.serve.coordinator.Coordinator.run", lambda self, stop: ran.set() or stop.wait()
    )
    with capture_logs() as logs:
        second = threading.Thread(
            target=roles.ROLES["coordinator"], args=(Live.fixed(config, {}, stop), database)
        )
        second.start()
        try:
            wait_for("its patience", lambda: logs)
            assert not ran.is_set()
            first.close()
            wait_for("its turn", ran.is_set)
            assert "coordinator" in holders(config.node.data_dir)
        finally:
            stop.set()
            second.join(30)
    # on PostgreSQL it says that it leads, too
    told = [entry["event"] for entry in logs if entry["event"] != "leads"]
    assert told == ["waits_for_the_other_coordinator"]
    assert holders(config.node.data_dir) == {}


def test_a_waiting_coordinator_can_be_stopped(tmp_path: Path, database: Database) -> None:
    config = config_in(tmp_path, **NO_ROUTES)
    stop = threading.Event()
    stop.set()
    with hold(config.node.data_dir, "coordinator"):  # type: ignore[union-attr]
        roles.ROLES["coordinator"](Live.fixed(config, {}, stop), database)


def test_a_receiver_whose_port_is_taken_says_so(tmp_path: Path, database: Database) -> None:
    port = free_port()
    node = {"ae_title": "AINODE", "host": "127.0.0.1", "port": port, "data_dir": "data"}
    config = config_in(tmp_path, node=node, **NO_ROUTES)
    stop = threading.Event()
    live = Live.fixed(config, {}, stop)
    first = threading.Thread(target=roles.ROLES["receiver"], args=(live, database))
    first.start()
    try:
        wait_for("the receiver", lambda: "receiver-0" in holders(config.node.data_dir))
        wait_for("its port", lambda: listens(port))
        with pytest.raises(NodeError, match=f"127.0.0.1:{port}") as told:
            roles.ROLES["receiver"](live, database)
        assert told.value.fix
    finally:
        stop.set()
        first.join(60)
    assert not first.is_alive()
    assert holders(config.node.data_dir) == {}
    assert pydicom.config.settings.reading_validation_mode == pydicom.config.IGNORE
