"""A site whose pages are asked without a network: its database, its clock, one browser a role."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from fastapi import FastAPI
from fastapi.testclient import TestClient

from dicom_node.config import load_config
from dicom_node.config.schema import DATABASE_URL
from dicom_node.inference.bundles import Bundle, find_bundles
from dicom_node.model.access import Role
from dicom_node.store import accounts, sessions
from dicom_node.store.database import Database
from dicom_node.web.app import create_app
from dicom_node.web.callers import COOKIE, CSRF_HEADER, csrf_of
from dicom_node.web.context import WebContext
from tests.factories import ManualClock
from tests.peers.databases import OF_THE_RUN

ADDRESS = "http://127.0.0.1:8080"
PASSWORD = "a long enough password"
_HASH = accounts.hash_password(PASSWORD)


@dataclass
class WebSite:
    """A node's pages; `clock` stands still until it is told to move."""

    app: FastAPI
    context: WebContext
    clock: ManualClock

    @property
    def database(self) -> Database:
        return self.context.database

    def browser(self) -> TestClient:
        """A browser that nobody has logged in with; it follows no redirect by itself."""
        return TestClient(self.app, ADDRESS, raise_server_exceptions=False, follow_redirects=False)

    def logged_in(self, role: Role = Role.ADMIN) -> TestClient:
        """A browser of a user of this role; its forms carry their token by themselves."""
        with self.database.write() as session:
            now = self.clock.now()
            if role not in {line.role for line in accounts.listed(session)}:
                accounts.add(session, f"the-{role}", role, _HASH, now, by="test")
            user = accounts.find(session, f"the-{role}")
            token = sessions.open_session(session, user.id, "testclient", now)
        browser = self.browser()
        browser.cookies.set(COOKIE, token)
        browser.headers[CSRF_HEADER] = csrf_of(token)
        return browser

    def script(self, role: Role = Role.ADMIN) -> TestClient:
        """A script with a token of this role."""
        self.logged_in(role)
        with self.database.write() as session:
            token = sessions.add_token(
                session, f"the-{role}", "test", role, self.clock.now(), by="test"
            )
        script = self.browser()
        script.headers["Authorization"] = f"Bearer {token}"
        return script


@pytest.fixture(scope="session")
def bundles() -> Mapping[str, Bundle]:
    """The built-in pipelines, found once."""
    return find_bundles([])


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all its tables, made once."""
    file = tmp_path_factory.mktemp("database") / "node.sqlite3"
    database = Database(f"sqlite:///{file}")
    database.migrate()
    database.close()
    return file


@pytest.fixture
def make_site(
    tmp_path: Path,
    bundles: Mapping[str, Bundle],
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., WebSite]]:
    """Make a site with sections of `node.yaml` beside the usual ones."""
    databases: list[Database] = []
    server = OF_THE_RUN.server

    def make(**sections: object) -> WebSite:
        file = tmp_path / "node.yaml"
        settings = {
            "node": {"ae_title": "AINODE", "data_dir": "data", "min_free_mb": 1},
            "peers": {
                "pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": 104},
                "xray": {"ae_title": "XR", "host": "127.0.0.1", "port": 104},
            },
            "accept_from": ["pacs", "xray"],
            "web": {},
            "routes": [
                {
                    "name": "knees",
                    "when": {"modality": "DX", "body_part": "knee"},
                    "run": ["knee_kl_ensemble"],
                    "send_to": ["pacs"],
                }
            ],
            **sections,
        }
        file.write_text(yaml.safe_dump(settings, sort_keys=False))
        if server is not None:
            monkeypatch.setenv(DATABASE_URL, server.database_with_tables())
        config = load_config(file, bundles)
        config.node.data_dir.mkdir()
        if server is None:
            shutil.copy(empty_database, config.node.data_dir / "node.sqlite3")
        database = Database(config.database_url)
        databases.append(database)
        if server is not None:
            database.migrate()
        clock = ManualClock()
        context = WebContext(file, config, bundles, database, clock)
        return WebSite(create_app(context), context, clock)

    yield make
    for database in databases:
        database.close()
        if server is not None:
            server.empty(database.url)


@pytest.fixture
def web(make_site: Callable[..., WebSite]) -> WebSite:
    """The usual site."""
    return make_site()


def csrf_in(answer: httpx.Response) -> str:
    """The token that a page's forms carry."""
    found = re.search(r'name="csrf_token" value="([0-9a-f]{64})"', answer.text)
    assert found, answer.text[:2000]
    return found.group(1)
