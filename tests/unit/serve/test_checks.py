"""`dicom-node check`: what is wrong is named, with the way to mend it; one fault hides no other."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from dicom_node.clock import SystemClock
from dicom_node.config import NodeConfig
from dicom_node.config.schema import DATABASE_URL
from dicom_node.demo.ports import free_port
from dicom_node.inference.bundles import BUILT_IN, Bundle, load_bundle
from dicom_node.receive import server
from dicom_node.serve import checks, disk
from dicom_node.serve.checks import Check, Level, check_all
from dicom_node.serve.locks import hold_numbered
from dicom_node.store import hosts
from dicom_node.store.database import Database
from tests.peers.certificates import make_certificates
from tests.peers.postgres import Postgres
from tests.unit.serve.small_node import bundle, config_in


def config_for(folder: Path, **sections: Any) -> NodeConfig:
    node = {
        "ae_title": "AINODE",
        "host": "127.0.0.1",
        "port": free_port(),
        "data_dir": "data",
        "min_free_mb": 1,
        **sections.pop("node", {}),
    }
    # no peer unless the test is about it: one that does not answer takes its time
    sections = {"peers": {"pacs": peer(free_port())}, "accept_from": ["pacs"], **sections}
    return config_in(folder, node=node, **sections)


def peer(port: int, ae_title: str = "PACS") -> dict[str, Any]:
    return {"ae_title": ae_title, "host": "127.0.0.1", "port": port}


def seen(config: NodeConfig, pipeline: Bundle) -> dict[str, Check]:
    return {item.name: item for item in check_all(config, {"tiny": pipeline})}


@pytest.mark.database_file
def test_a_node_that_can_start_has_no_failure_and_is_left_as_it_was(tmp_path: Path) -> None:
    config = config_for(tmp_path, inference={"device": "cpu"})
    found = seen(config, bundle(tmp_path))
    assert {item.name for item in found.values() if item.level is Level.FAIL} == set()
    assert found["database"].seen == "SQLite, made at the first start"
    assert "PACS" in found["accept_from"].seen
    assert list(config.node.data_dir.iterdir()) == []


def test_weights_that_are_not_the_manifest_s_fail(tmp_path: Path) -> None:
    pipeline = bundle(tmp_path)
    pipeline.weights.write_bytes(b"other weights")
    item = seen(config_for(tmp_path), pipeline)["pipeline tiny"]
    assert item.level is Level.FAIL
    assert "SHA-256 differs" in item.seen
    assert "restore the file" in item.fix


def test_weights_that_are_missing_fail(tmp_path: Path) -> None:
    pipeline = bundle(tmp_path)
    pipeline.weights.unlink()
    item = seen(config_for(tmp_path), pipeline)["pipeline tiny"]
    assert item.level is Level.FAIL
    assert "No such file" in item.seen


def test_own_weights_of_another_network_fail(tmp_path: Path) -> None:
    built_in = load_bundle(BUILT_IN / "knee_osteoporosis_superfluity")
    others = load_bundle(BUILT_IN / "hip_fixation_device")
    for weights, level in ((built_in.weights, Level.OK), (others.weights, Level.FAIL)):
        pipeline = replace(load_bundle(built_in.folder, weights), name="tiny", demonstration=False)
        config = config_for(tmp_path, pipelines={"tiny": {"weights": str(weights)}})
        item = seen(config, pipeline)["pipeline tiny"]
        assert item.level is level
    assert "2 tensors of another shape than the network's (head.weight" in item.seen
    assert "weights that were trained for this network" in item.fix


def test_a_disk_that_is_almost_full_fails_and_one_that_soon_is_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 500 * 1024 * 1024})
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage)
    pipeline = bundle(tmp_path)
    low = seen(config_for(tmp_path, node={"min_free_mb": 501}), pipeline)["disk"]
    assert (low.level, low.seen) == (
        Level.FAIL,
        "500 MiB free, warned of below 1002 MiB, images are refused below 501 MiB",
    )
    assert "node.min_free_mb" in low.fix
    soon = seen(config_for(tmp_path, node={"min_free_mb": 400}), pipeline)["disk"]
    assert soon.level is Level.WARN
    assert seen(config_for(tmp_path, node={"min_free_mb": 100}), pipeline)["disk"].level is Level.OK


def test_a_disk_without_direct_writes_is_warned_of_unless_no_reserve_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = bundle(tmp_path)
    assert seen(config_for(tmp_path), pipeline)["reserve"].level is Level.OK
    monkeypatch.setattr(checks, "no_reserve", lambda _: "Invalid argument")
    item = seen(config_for(tmp_path), pipeline)["reserve"]
    assert item.level is Level.WARN
    assert "Invalid argument" in item.seen
    assert "reserve" not in seen(config_for(tmp_path, receive={"reserve_mb": 0}), pipeline)


def test_a_port_of_another_program_fails_and_our_own_does_not(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        config = config_for(tmp_path, node={"port": other.getsockname()[1]})
        item = seen(config, bundle(tmp_path))["port"]
        assert item.level is Level.FAIL
        assert "in use by another program" in item.seen
        assert "ss -ltnp" in item.fix
        with hold_numbered(config.node.data_dir, "receiver"):
            item = seen(config, bundle(tmp_path))["port"]
        assert item.level is Level.OK
        assert "in use by this node" in item.seen


def test_an_address_that_is_not_this_machine_s_fails(tmp_path: Path) -> None:
    # TEST-NET-1 (RFC 5737) is nobody's
    item = seen(config_for(tmp_path, node={"host": "192.0.2.1"}), bundle(tmp_path))["port"]
    assert item.level is Level.FAIL
    assert "node.host" in item.fix


def test_a_peer_that_does_not_answer_warns(tmp_path: Path) -> None:
    item = seen(config_for(tmp_path), bundle(tmp_path))["peer pacs"]
    assert item.level is Level.WARN
    assert "the connection failed" in item.seen
    assert "firewall" in item.fix


@pytest.fixture
def pacs() -> Iterator[int]:
    """A PACS that answers C-ECHO when it is called PACS; its port."""
    ae = AE("PACS")
    ae.require_called_aet = True
    ae.add_supported_context(Verification)
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_ECHO, lambda _: 0)]
    )
    yield server.server_address[1]
    server.shutdown()


def test_a_peer_that_answers_is_fine_and_a_wrong_ae_title_is_told(
    tmp_path: Path, pacs: int
) -> None:
    config = config_for(tmp_path, peers={"pacs": peer(pacs), "other": peer(pacs, "PAX")})
    found = seen(config, bundle(tmp_path))
    assert found["peer pacs"].level is Level.OK
    assert found["peer other"].level is Level.WARN
    assert "called AE title not recognised" in found["peer other"].seen
    # reports do not go there: it need not answer
    assert found["peer other"].fix.startswith("only if it should answer")


@pytest.mark.database_file
def test_a_folder_that_cannot_be_written_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = seen(config_for(tmp_path, node={"data_dir": "file/data"}), bundle(tmp_path))
    assert found["data_dir"].level is Level.FAIL
    assert found["database"].level is Level.FAIL
    assert found["pipeline tiny"].level is Level.OK


@pytest.mark.database_file
def test_a_database_that_is_none_fails_and_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "data" / "node.sqlite3"
    file.parent.mkdir()
    file.write_text("this is no database" * 100)
    before = file.read_bytes()
    item = seen(config_for(tmp_path), bundle(tmp_path))["database"]
    assert item.level is Level.FAIL
    assert "not a database" in item.seen
    assert file.read_bytes() == before


def test_a_database_of_a_newer_version_fails(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    database = Database(config.database_url)
    database.migrate()
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    item = seen(config, bundle(tmp_path))["database"]
    assert item.level is Level.FAIL
    assert "newer dicom-node" in item.seen


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "nonsense://user:secret@host/db",
        "postgresql+nodriver://user:secret@host/db",
    ],
)
def test_a_database_url_that_cannot_be_used_fails_without_its_password(
    tmp_path: Path, url: str
) -> None:
    item = seen(config_for(tmp_path, node={"database_url": url}), bundle(tmp_path))["database"]
    assert item.level is Level.FAIL
    assert "node.database_url" in item.fix
    assert "secret" not in f"{item}"


def test_a_gpu_that_is_wanted_and_not_there_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    item = seen(config_for(tmp_path, inference={"device": "cuda:0"}), bundle(tmp_path))["device"]
    assert item.level is Level.FAIL
    assert "inference.device: auto" in item.fix


def test_anyone_may_send_and_no_route_are_warned_of(tmp_path: Path) -> None:
    found = seen(config_for(tmp_path, accept_from="anyone", routes=[]), bundle(tmp_path))
    assert found["accept_from"].level is Level.WARN
    assert found["routes"].level is Level.WARN


def test_a_view_that_we_do_not_know_is_warned_of(tmp_path: Path) -> None:
    def routes(view: Any) -> list[dict[str, Any]]:
        return [{"name": "knees", "when": {"view": view}, "run": "tiny", "send_to": "pacs"}]

    tiny = bundle(tmp_path)
    known = ["AP", "lateral", "Left Lateral", "seitlich", "rosenberg", "frontal", "unknown"]
    found = seen(config_for(tmp_path, routes=routes(known)), tiny)
    assert found["routes"].level is Level.OK
    found = seen(config_for(tmp_path, routes=routes(["AP", "APP"])), tiny)
    assert found["routes"].level is Level.WARN
    assert "`APP` of route knees" in found["routes"].seen
    assert "`AP`" not in found["routes"].seen


def test_a_check_that_itself_breaks_is_a_failure_and_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(_: object) -> Check:
        raise ValueError("Doe^Jane")

    monkeypatch.setattr(checks, "_disk", breaks)
    found = seen(config_for(tmp_path), bundle(tmp_path))
    assert found["disk"].level is Level.FAIL
    assert "ValueError at" in found["disk"].seen
    assert "Doe" not in found["disk"].seen
    assert found["pipeline tiny"].level is Level.OK


def test_tls_is_looked_at_with_its_files(tmp_path: Path) -> None:
    assert seen(config_for(tmp_path), bundle(tmp_path))["tls"].seen.startswith("off; ")
    tls = {"port": free_port(), "certificate": "node.pem", "key": "node.key"}
    item = seen(config_for(tmp_path, receive={"tls": tls}), bundle(tmp_path))["tls"]
    assert item.level is Level.FAIL
    assert "No such file" in item.seen
    pair = make_certificates(tmp_path / "made").server
    tls |= {"certificate": str(pair.certificate), "key": str(pair.key)}
    item = seen(config_for(tmp_path, receive={"tls": tls}), bundle(tmp_path))["tls"]
    assert item.level is Level.OK
    assert str(tls["port"]) in item.seen


def test_an_untested_pynetdicom_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert seen(config_for(tmp_path), bundle(tmp_path))["pynetdicom"].level is Level.OK
    monkeypatch.setattr(server, "pynetdicom_version", "9.9.9")
    item = seen(config_for(tmp_path), bundle(tmp_path))["pynetdicom"]
    assert item.level is Level.WARN
    assert "pip install pynetdicom==" in item.fix


def test_hosts_with_a_data_folder_each_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: Postgres
) -> None:
    url = postgres.new_database()
    monkeypatch.setenv(DATABASE_URL, url)
    made = make_certificates(tmp_path / "tls")
    token = tmp_path / "token"
    token.write_text("a secret of all hosts")
    token.chmod(0o600)
    section = {
        "this_host": "rx-1",
        "certificate": str(made.server.certificate),
        "key": str(made.server.key),
        "ca": str(made.ca.certificate),
        "token_file": str(token),
    }

    def check(**changes: str) -> Check:
        config = config_for(tmp_path, hosts={**section, **changes})
        return seen(config, bundle(tmp_path))["hosts"]

    assert check().level is Level.OK
    assert "rx-1:11180; 0 others answer" in check().seen
    assert check(key=str(made.client.key)).level is Level.FAIL
    assert check(token_file=str(tmp_path / "none")).level is Level.FAIL
    database = Database(url)
    database.migrate()
    with database.write() as session:
        now = SystemClock().now()
        hosts.register(session, "rx-2", "b" * 32, f"127.0.0.1:{free_port()}", now)
    database.close()
    assert (check().level, check().seen.split(": ")[-1]) == (Level.WARN, "no connection")
    monkeypatch.setenv(DATABASE_URL, f"sqlite:///{tmp_path / 'x.sqlite3'}")
    assert check().seen == "SQLite is for one machine"
