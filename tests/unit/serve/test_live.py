"""What of a changed node.yaml a role takes while it runs, and what waits for a restart."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import yaml
from structlog.testing import capture_logs

from dicom_node.config import InvalidConfigError, NodeConfig, load_config
from dicom_node.config.schema import DATABASE_URL
from dicom_node.errors import ConfigError, PipelineError
from dicom_node.serve import reloading
from dicom_node.serve.live import (
    Live,
    Loaded,
    live_config,
    load_beside,
    load_text,
    running_config,
    running_file,
)
from dicom_node.serve.reloading import Reloader, load_for_role, notices
from dicom_node.store import configurations
from dicom_node.store.database import Database
from tests.peers.ports import wait_for
from tests.unit.inference.tiny_bundles import write_bundle
from tests.unit.serve.small_node import config_in, write_config

NO_ROUTES: dict[str, object] = {"routes": []}


def test_peers_and_routes_are_taken_and_ports_wait(tmp_path: Path) -> None:
    started = config_in(tmp_path, **NO_ROUTES)
    fresh = config_in(
        tmp_path,
        node={"ae_title": "OTHER", "data_dir": "elsewhere", "port": 4242},
        inference={"workers": 3, "attempts": 7},
        settle={"quiet_seconds": 5},
        **NO_ROUTES,
    )
    now, waiting = live_config(started, fresh)
    assert now.node == started.node
    assert now.settle.quiet_seconds == 5
    assert (now.inference.workers, now.inference.attempts) == (1, 7)
    assert {"node.ae_title", "node.port", "node.data_dir", "inference.workers"} <= set(waiting)
    assert "inference.attempts" not in waiting


def test_nothing_waits_where_nothing_changed(tmp_path: Path) -> None:
    config = config_in(tmp_path, **NO_ROUTES)
    assert live_config(config, config) == (config, ())


def test_a_peer_that_needs_a_certificate_waits_for_the_tls_that_it_needs(tmp_path: Path) -> None:
    file = write_config(tmp_path, **NO_ROUTES)
    started = load_config(file)
    tls = {"certificate": "c", "key": "k", "client_ca": "a", "client_certificate": "optional"}
    peer = {"ae_title": "X", "host": "h", "port": 1, "needs_certificate": True}
    write_config(tmp_path, receive={"tls": tls}, peers={"xray": peer}, **NO_ROUTES)
    with pytest.raises(InvalidConfigError, match="restart"):
        load_beside(started, file.read_text(), file)


def test_a_role_takes_what_is_asked_for_and_keeps_the_old_when_it_is_wrong(tmp_path: Path) -> None:
    first = Loaded("first", config_in(tmp_path, **NO_ROUTES), {})
    second = Loaded("second", first.config, {})
    answers: list[Loaded | ConfigError] = [ConfigError("a", "b", "c"), second]
    asked: list[int] = []

    def load() -> Loaded:
        asked.append(len(asked))
        answer = answers[asked[-1]]
        if isinstance(answer, ConfigError):
            raise answer
        return answer

    stop = threading.Event()
    live = Live(first, load, stop)
    live.begin()
    with live.following(), capture_logs() as logs:
        live.ask()
        wait_for("the refusal", lambda: logs)
        assert live.text == "first"
        assert not live.turn.is_set()
        live.ask()
        assert live.turn.wait(60)
        assert live.begin().text == "second"
        assert not live.turn.is_set()
        stop.set()
        assert live.turn.wait(60)
        live.begin()
        assert live.turn.is_set()
    assert [line["event"] for line in logs] == ["configuration_refused", "configuration_taken"]


def test_the_supervisor_keeps_the_last_good_file_for_roles_that_start_again(
    tmp_path: Path,
) -> None:
    file = write_config(tmp_path, **NO_ROUTES)
    reloader = Reloader(file, load_text(file.read_text(), file))
    reloader.start(file.read_text())
    write_config(tmp_path, settle={"quiet_seconds": 7}, **NO_ROUTES)
    assert reloader.reload()
    file.write_text(file.read_text() + "nonsense: 1\n")
    assert not reloader.reload()
    first, again = load_for_role(file, reloader.folder)
    assert first.config.settle.quiet_seconds == 7
    assert again().config.settle.quiet_seconds == 7
    assert (reloader.folder.stat().st_mode & 0o077) == 0
    found = running_config(file)
    assert found is not None
    assert found.settle.quiet_seconds == 7
    database = Database(first.config.database_url)
    with database.read() as session:
        last = configurations.last_reload(session)
        assert last is not None
        assert not last.taken
        assert "nonsense" in last.problems[0]
        assert notices(file, first.config, session) == []  # nothing runs
    database.close()


def test_a_role_of_its_own_records_its_reloads(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATABASE_URL, database.url)
    file = write_config(tmp_path, **NO_ROUTES)
    _, again = load_for_role(file, None)
    write_config(tmp_path, node={"ae_title": "B", "data_dir": "data"}, **NO_ROUTES)
    assert again().config.node.ae_title == ["AINODE"]
    with database.read() as session:
        last = configurations.last_reload(session)
    assert last is not None
    assert last.taken
    assert "node.ae_title" in last.needs_restart
    file.write_text("node: 1\n")
    with pytest.raises(ConfigError):
        again()
    with database.read() as session:
        last = configurations.last_reload(session)
    assert last is not None
    assert not last.taken


def test_a_body_part_that_no_image_can_meet_is_a_mistake(tmp_path: Path) -> None:
    routes = [
        {
            "name": f"route {number}",
            "when": {"body_part": parts},
            "run": "knee_kl_ensemble",
            "send_to": "pacs",
        }
        for number, parts in enumerate(["Kniegelenk", ["hip", "knea"]])
    ]
    file = write_config(tmp_path, routes=routes)
    with pytest.raises(InvalidConfigError) as caught:
        load_text(file.read_text(), file)
    (problem,) = caught.value.problems
    assert problem.key == "routes[1].when.body_part[1]"
    assert file.read_text().splitlines()[problem.line - 1].strip() == "- knea"
    assert problem.fix == "did you mean `knee`?"


def test_a_pipeline_that_takes_a_body_part_that_no_image_can_meet_is_a_mistake(
    tmp_path: Path,
) -> None:
    folder = write_bundle(tmp_path / "own")
    spec = folder / "configs" / "dicom.yaml"
    told = yaml.safe_load(spec.read_text())
    file = write_config(tmp_path, pipelines_path=["own"], **NO_ROUTES)
    for part in ("FILL IN: knea", "knee"):
        told["input"]["when"] = {"body_part": part}
        spec.write_text(yaml.safe_dump(told))
        load_text(file.read_text(), file)
    told["input"]["when"] = {"body_part": "knea"}
    spec.write_text(yaml.safe_dump(told))
    with pytest.raises(PipelineError, match="knea") as caught:
        load_text(file.read_text(), file)
    assert caught.value.what == f"{spec}: input.when.body_part"


def test_a_mistake_of_our_own_in_reading_is_a_refusal_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_config(tmp_path, **NO_ROUTES)
    reloader = Reloader(file, load_text(file.read_text(), file))
    reloader.start(file.read_text())
    first, again = load_for_role(file, None)

    def broken(*_: object, **__: object) -> NodeConfig:
        raise KeyError("Smith^John")

    file.write_text(file.read_text() + "# changed\n")
    monkeypatch.setattr("dicom_node.serve.live.config_of_text", broken)
    assert not reloader.reload()
    with pytest.raises(ConfigError, match=r"KeyError at .*test_live\.py"):
        again()
    monkeypatch.setattr(reloading, "holders", lambda _: {"supervisor": 1})
    database = Database(first.config.database_url)
    with database.read() as session:
        last = configurations.last_reload(session)
        said = notices(file, first.config, session)
    database.close()
    assert last is not None
    assert not last.taken
    assert len(said) == 1
    for text in (last.problems[0], said[0]):
        assert "KeyError at" in text
        assert "Smith" not in text


def test_a_role_goes_on_following_after_an_error_that_nobody_foresaw(tmp_path: Path) -> None:
    first = Loaded("first", config_in(tmp_path, **NO_ROUTES), {})

    def load() -> Loaded:
        raise KeyError("Smith^John")

    live = Live(first, load, threading.Event())
    with capture_logs() as logs:
        live.take()
    assert live.text == "first"
    assert [(line["event"], line["error"]) for line in logs] == [
        ("configuration_refused", "KeyError")
    ]


def test_no_running_configuration_is_invented(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_text("node: [")
    assert running_config(file) is None
    file.write_text("node: {data_dir: 'data', x: [")
    assert running_config(file) is None
    file.write_text("node: {data_dir: ~no-such-user/data, x: [")
    assert running_config(file) is None
    assert not running_file(tmp_path).exists()
