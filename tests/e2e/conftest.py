"""The dashboard of a running node with real studies, in Debian's Chromium.

Set DICOM_NODE_SCREENSHOTS to a folder to keep what the tests saw.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from dicom_node.demo.orthanc import Orthanc
from dicom_node.demo.phantom_studies import write_study
from dicom_node.demo.ports import free_port
from dicom_node.demo.routes import ROUTES
from dicom_node.demo.studies import DemoStudy, hip, knee, spine
from dicom_node.model.access import Role
from tests.factories import radiograph
from tests.peers.node import Node, running_node, running_pacs
from tests.peers.ohif_page import running_chromium
from tests.peers.ports import wait_for

PASSWORD: Final = "a long enough password"
_SECONDS: Final = 180
_SIZES: Final = {"wide": (1280, 900), "phone": (390, 844)}
_THEMES: Final = ("light", "dark")
expect.set_options(timeout=_SECONDS * 1000)


@dataclass(frozen=True)
class Dashboard:
    """A running node, its PACS, and what was sent to it.

    Attributes:
        studies: The demonstration's studies by name; all have ended.
        unrouted: A study that no route wants.
    """

    node: Node
    pacs: Orthanc
    address: str
    studies: dict[str, DemoStudy]
    unrouted: str


@pytest.fixture(scope="package")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A node with a dashboard, three studies that were analysed and one that was not."""
    folder = tmp_path_factory.mktemp("dashboard")
    studies = [knee(), hip(), spine()]
    for study in studies:
        write_study(study.instances, folder / "sent")
    other = radiograph(BodyPartExamined="HAND", PatientName="Doe^Jane", PatientID="J-1")
    write_study([other], folder / "sent")
    port = free_port()
    web = {"port": port, "session_minutes": 60}
    with (
        running_pacs(folder / "pacs") as pacs,
        running_node(folder / "node", pacs.dicom_port, web=web, routes=ROUTES) as node,
    ):
        assert node.send(sorted((folder / "sent").iterdir())).returncode == 0
        uids = [study.study_uid for study in studies]
        node.wait_for_studies([*uids, str(other.StudyInstanceUID)], 240)
        (folder / "password").write_text(PASSWORD)
        for role in Role:
            done = node.cli(
                *("users", "add", role, "--role", role),
                *("--password-file", str(folder / "password")),
            )
            assert done.returncode == 0, done.stderr
        yield Dashboard(
            node,
            pacs,
            f"http://127.0.0.1:{port}",
            {study.name: study for study in studies},
            str(other.StudyInstanceUID),
        )


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium without a window."""
    with running_chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def cookies(dashboard: Dashboard, chromium: Browser) -> Callable[[Role], Any]:
    """The cookies of a role that has logged in, by the form, once."""
    kept: dict[Role, Any] = {}

    def of(role: Role) -> Any:
        if role not in kept:
            page = chromium.new_page()
            page.set_default_timeout(_SECONDS * 1000)
            log_in(page, dashboard.address, role)
            kept[role] = page.context.cookies()
            page.close()
        return kept[role]

    return of


@pytest.fixture
def page_of(
    dashboard: Dashboard, chromium: Browser, cookies: Callable[[Role], Any]
) -> Iterator[Callable[..., Page]]:
    """Open a page for somebody of a role who has logged in; what the browser complains of fails."""
    pages: list[Page] = []
    complaints: list[str] = []

    def opened(role: Role = Role.OPERATOR, path: str = "/") -> Page:
        context = chromium.new_context(
            viewport={"width": 1280, "height": 900}, base_url=dashboard.address
        )
        context.add_cookies(cookies(role))
        page = context.new_page()
        page.set_default_timeout(_SECONDS * 1000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: _complaint(said, complaints))
        page.goto(path)
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.context.close()
    assert not complaints, complaints


def log_in(page: Page, address: str, role: Role) -> None:
    """Log in by the form."""
    page.goto(f"{address}/login")
    page.get_by_label("Name").fill(str(role))
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("button", name="Log out")).to_be_visible()


def assert_accessible(page: Page) -> None:
    """Axe finds no serious or critical problem, in either theme."""
    for theme in _THEMES:
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        found = Axe().run(page)
        bad = [
            f"{item['id']}: {item['help']}: {[node['html'] for node in item['nodes']][:3]}"
            for item in found.response["violations"]
            if item["impact"] in ("serious", "critical")
        ]
        assert not bad, f"{page.url} {theme}: " + "\n".join(bad)


def shots(page: Page, name: str, folder: Path | None = None) -> list[Path]:
    """Take the page as it is at both sizes and in both themes; nothing may stick out sideways."""
    wanted = os.environ.get("DICOM_NODE_SCREENSHOTS") or folder
    kept = Path(wanted) if wanted else None
    taken = []
    for size, (width, height) in _SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{page.url} is {wide} px wide on a screen of {width} px"
        for theme in _THEMES:
            page.emulate_media(color_scheme=theme, reduced_motion="reduce")
            if kept is not None:
                kept.mkdir(parents=True, exist_ok=True)
                taken.append(kept / f"{name} {size} {theme}.png")
                page.screenshot(path=taken[-1], full_page=True)
    page.set_viewport_size({"width": 1280, "height": 900})
    return taken


def wait_until_ended(dashboard: Dashboard, study_uid: str) -> None:
    """Wait until a study has no job open and every delivery has ended."""
    dashboard.node.wait_for_studies([study_uid], 240)


def _complaint(said: Any, complaints: list[str]) -> None:
    # what a test asks for in vain is told by its answer
    if said.type == "error" and "Failed to load resource" not in said.text:
        complaints.append(said.text)


__all__ = ["Dashboard", "assert_accessible", "log_in", "shots", "wait_for", "wait_until_ended"]
