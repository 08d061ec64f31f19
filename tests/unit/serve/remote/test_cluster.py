"""A Ray cluster that is not there, and a machine without Ray: said in words, and nothing breaks."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from dicom_node.config import NodeConfig
from dicom_node.demo.ports import free_port
from dicom_node.errors import ConfigError
from dicom_node.serve import checks
from dicom_node.serve.away import AwayNote, away
from dicom_node.serve.checks import Level
from dicom_node.serve.disk import disk_state
from dicom_node.serve.live import Live, load_text
from dicom_node.serve.locks import hold
from dicom_node.serve.measure import roles_down
from dicom_node.serve.needs import needs
from dicom_node.serve.remote import cluster as cluster_module
from dicom_node.serve.remote.cluster import Cluster, ClusterAwayError, probe, require_ray
from dicom_node.serve.roles import ROLES
from dicom_node.store.database import Database
from tests.peers.ports import wait_for
from tests.unit.serve.small_node import config_in, write_config

_BLOCKED = """
import sys


class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ray":
            raise ImportError("ray is blocked")


sys.meta_path.insert(0, Blocked())
"""


def without_ray(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _BLOCKED + program], capture_output=True, text=True, check=False
    )


def test_without_ray_installed_nothing_imports_it() -> None:
    done = without_ray(
        "import importlib, pkgutil, dicom_node\n"
        "for found in pkgutil.walk_packages(dicom_node.__path__, 'dicom_node.'):\n"
        "    parts = found.name.split('.')\n"
        "    if parts[:3] != ['dicom_node', 'serve', 'remote'] and parts[-1] != '__main__':\n"
        "        if 'migrations' not in parts:\n"
        "            importlib.import_module(found.name)\n"
        "assert 'ray' not in sys.modules\n"
    )
    assert done.returncode == 0, done.stderr


def test_a_node_that_is_to_use_ray_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'dicom-node\[ray\]'"):
        require_ray()
    config = ray_config(tmp_path, "auto")
    (seen,) = [check for check in checks.check_all(config, {}) if check.name == "ray"]
    assert (seen.level, seen.seen) == (Level.FAIL, "the package ray is not installed here")


def ray_config(folder: Path, address: str) -> NodeConfig:
    return config_in(folder, inference={"executor": "ray"}, ray={"address": address}, routes=[])


def test_check_says_when_nothing_answers_at_the_address(tmp_path: Path) -> None:
    address = f"ray://127.0.0.1:{free_port()}"
    (seen,) = [c for c in checks.check_all(ray_config(tmp_path, address), {}) if c.name == "ray"]
    assert seen.level is Level.FAIL
    assert f"nothing answers at {address.removeprefix('ray://')}" in seen.seen
    assert "start it, or correct `ray.address`" in seen.fix


def test_a_local_node_is_not_checked_for_ray(tmp_path: Path) -> None:
    names = {check.name for check in checks.check_all(config_in(tmp_path, routes=[]), {})}
    assert "device" in names
    assert "ray" not in names


def test_auto_on_a_machine_without_a_ray_node_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(ClusterAwayError, match="no Ray node runs on this machine"):
        probe("auto")
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    with pytest.raises(ClusterAwayError, match="nothing answers at nonsense"):
        probe("auto")


def test_a_worker_waits_for_its_cluster_and_everybody_can_know(
    tmp_path: Path, database: Database
) -> None:
    """It ends at once when it is told to, and then nothing is away any more."""
    file = write_config(
        tmp_path,
        inference={"executor": "ray"},
        ray={"address": f"ray://127.0.0.1:{free_port()}"},
        routes=[],
    )
    loaded = load_text(file.read_text(), file)
    config = loaded.config
    live = Live(loaded, None, threading.Event())
    role = threading.Thread(target=ROLES["worker"], args=(live, database))
    role.start()
    try:
        (note,) = wait_for("the note", lambda: away(config), 60)
        assert note.what == f"Ray cluster {config.ray.address}"
        assert "jobs wait meanwhile and nothing is lost" in note.fix
        with database.read() as session:
            told = [
                need.title for need in needs(config, session, note.since, disk_state(config), {})
            ]
        assert told == [f"Ray cluster {config.ray.address} is away"]
    finally:
        live.stop.set()
        live.turn.set()
        role.join(30)
    assert not role.is_alive()
    assert away(config) == []


def test_the_note_keeps_since_when_it_is_away(tmp_path: Path) -> None:
    config = ray_config(tmp_path, "auto")
    note = AwayNote(config.node.data_dir, "worker-0@here")
    first = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    note.put(ClusterAwayError("auto", "no Ray node runs on this machine"), first)
    note.put(ClusterAwayError("auto", "nothing answers"), first + timedelta(minutes=1))
    (seen,) = away(config)
    assert (seen.since, seen.why) == (first, "nothing answers")
    # with a supervisor that runs, an alert tells of it
    held = hold(config.node.data_dir, "supervisor")
    assert held is not None
    with held:
        assert "Ray cluster" in roles_down(config)
    assert away(config_in(tmp_path)) == []


def test_a_cluster_that_cannot_be_asked_counts_as_away_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> list[object]:
        raise BrokenPipeError("of gRPC")

    ray = SimpleNamespace(nodes=lambda: [{"NodeID": "a", "Alive": True, "Resources": {"CPU": 2}}])
    monkeypatch.setitem(sys.modules, "ray", ray)
    cluster = Cluster("ray://somewhere:10001")
    assert not cluster.has_lost("a", within=0)
    assert not cluster.is_away
    ray.nodes = broken
    assert cluster.has_lost("a", within=60)
    assert cluster.is_away
