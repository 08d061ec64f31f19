"""The container file: linted, of a fixed base, not root; and its health check tells the truth."""

from __future__ import annotations

import fnmatch
import http.server
import json
import os
import re
import socket
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[3]
FILE = ROOT / "deploy" / "container" / "Containerfile"
CHECK = ROOT / "deploy" / "container" / "healthcheck.py"
HADOLINT = Path(sysconfig.get_path("scripts")) / "hadolint"


def lint(file: Path) -> list[str]:
    told = subprocess.run(
        [HADOLINT, "--format", "json", file], capture_output=True, text=True, check=False
    )
    return [item["code"] for item in json.loads(told.stdout)]


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^\s*#.*\n", "", FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines if line)]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    begin = max(number for number, (name, _) in enumerate(found) if name == "FROM")
    return found[begin:]


def test_hadolint_finds_nothing() -> None:
    assert lint(FILE) == []


def test_hadolint_would_find_a_fault(tmp_path: Path) -> None:
    worse = tmp_path / "Containerfile"
    worse.write_text(FILE.read_text().replace("3.12.11-slim-bookworm", "latest") + "USER root\n")
    assert {"DL3002"} <= set(lint(worse))


def test_the_image_runs_as_its_own_user_with_data_on_a_volume() -> None:
    stage = last_stage()
    users = [rest for name, rest in stage if name == "USER"]
    assert users == ["10001:10001"]
    # the program is root's: what is copied is given to nobody else
    assert not any("--chown" in rest for name, rest in stage if name == "COPY")
    assert ("VOLUME", "/var/lib/dicom-node") in stage
    assert ("ENTRYPOINT", '["tini", "--", "dicom-node"]') in stage
    assert any(name == "HEALTHCHECK" for name, _ in stage)
    assert ("STOPSIGNAL", "SIGTERM") in stage


def test_base_and_pytorch_are_chosen_by_arguments_and_nothing_is_cached() -> None:
    found = instructions()
    assert ("ARG", "PYTHON_IMAGE=docker.io/library/python:3.12.11-slim-bookworm") in found
    assert ("ARG", "TORCH_INDEX=https://download.pytorch.org/whl/cpu") in found
    installs = [rest for name, rest in found if name == "RUN" and "pip install" in rest]
    assert len(installs) == 2
    assert all("--no-cache-dir" in rest for rest in installs)
    versions = re.search(r'"(torch[^"]+)"', FILE.read_text())
    assert versions
    assert f'"{versions[1]}",' in (ROOT / "pyproject.toml").read_text()


def test_the_build_context_holds_the_program_and_nothing_of_a_site() -> None:
    lines = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert lines[0] == "*"
    wanted = {line[1:] for line in lines if line.startswith("!")}
    assert all((ROOT / name).exists() for name in wanted)
    assert {"dicom_node", "pipelines", "weights", "pyproject.toml", "README.md"} <= wanted
    assert not wanted & {".git", ".venv", "tests", "deploy", "."}
    left_out = [line.removeprefix("**/") for line in lines[1:] if not line.startswith("!")]
    for name in ("node.sqlite3-wal", ".env", "secrets", "__pycache__"):
        assert any(fnmatch.fnmatch(name, pattern) for pattern in left_out), name


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/well" else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: the test tells what it sees."""


@contextmanager
def web() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def status(**environment: str) -> tuple[int, str]:
    told = subprocess.run(
        [sys.executable, CHECK],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return told.returncode, told.stderr


def test_the_health_check_follows_what_the_dashboard_says() -> None:
    with web() as address:
        assert status(DICOM_NODE_HEALTH_URL=f"{address}/well") == (0, "")
        assert status(DICOM_NODE_HEALTH_URL=f"{address}/ill")[0] == 1
    assert status(DICOM_NODE_HEALTH_URL=f"{address}/well")[0] == 1


def test_without_a_dashboard_the_health_check_calls_the_dicom_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert status(DICOM_NODE_HEALTH_PORT=port) == (0, "")
    code, told = status(DICOM_NODE_HEALTH_PORT=port)
    assert (code, "ConnectionRefusedError" in told) == (1, True)
