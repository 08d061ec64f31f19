"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.config.schema import DATABASE_URL
from dicom_node.demo import ports
from dicom_node.store.database import Database
from tests.peers.databases import KINDS, OF_THE_RUN, fresh_database
from tests.peers.postgres import Postgres, running_postgres


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the real data sets; CI has them, a user's clone need not."""
    value = os.environ.get("DICOM_NODE_SHARED")
    if not value:
        pytest.skip("needs real data: set DICOM_NODE_SHARED to the folder that holds data/")
    data = Path(value) / "data"
    if not data.is_dir():
        pytest.fail(f"DICOM_NODE_SHARED names {value}, but {data} is not there")
    return data


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long",
        action="store_true",
        help="fault and fuzz tests for as long as before a release (some twenty minutes)",
    )
    parser.addoption(
        "--database",
        choices=KINDS,
        default=KINDS[0],
        help="what every test's node keeps its state in",
    )


def pytest_configure(config: pytest.Config) -> None:
    # readline leaves its width to the processes that run the tests: nothing here has a terminal
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        count = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        ports.RANGE = ports.RANGE[int(worker.removeprefix("gw")) :: count]
    config.addinivalue_line("markers", "database_file: about the file that SQLite's database is")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for the whole run; each test makes a database of its own."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session", autouse=True)
def _server_of_the_run(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--database") == "postgresql":
        OF_THE_RUN.server = request.getfixturevalue("postgres")


@pytest.fixture(autouse=True)
def _database_of_the_run(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """With `--database postgresql`, a node that names no database has a fresh one there."""
    server = OF_THE_RUN.server
    if server is None or request.node.get_closest_marker("database_file"):
        yield
        return
    url = server.unused_database()
    monkeypatch.setenv(DATABASE_URL, url)
    yield
    server.give_back(url)


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database with this version's tables, of the kind that the run is on."""
    kind = request.config.getoption("--database")
    with fresh_database(kind, request, tmp_path / "data") as database:
        yield database


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Whether fault and fuzz tests are to run their long mode."""
    return bool(request.config.getoption("--long"))
