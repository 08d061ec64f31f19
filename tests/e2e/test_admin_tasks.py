"""What an admin is asked for, done by clicks alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect
from sqlalchemy import select

from dicom_node.model.access import Role
from dicom_node.store.tables import AuditEvent
from tests.e2e.conftest import Dashboard
from tests.factories import radiograph
from tests.peers import dcmtk
from tests.peers.ports import wait_for


def go_to(page: Page, name: str) -> None:
    """Follow an entry at the top of the page."""
    page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()


def test_find_a_study_and_learn_why_it_was_not_routed(
    dashboard: Dashboard, page_of: Callable[..., Page]
) -> None:
    page = page_of(Role.OPERATOR, "/")
    go_to(page, "Studies")
    page.get_by_label("Patient, accession number or UID").fill("Doe")
    page.get_by_role("button", name="Search").click()
    found = page.locator("table.studies tbody tr")
    expect(found).to_have_count(1)
    found.get_by_role("link").click()
    expect(page.locator(".note.warn").first).to_contain_text("No pipeline runs")
    expect(page.locator("#routing tr", has_text="body_part").first).to_contain_text("HAND")


def test_resend_a_study(dashboard: Dashboard, page_of: Callable[..., Page]) -> None:
    uid = dashboard.studies["hip radiograph"].study_uid

    def sent() -> int:
        with dashboard.node.database.read() as session:
            return len(
                session.scalars(
                    select(AuditEvent.id).where(
                        AuditEvent.study_uid == uid, AuditEvent.kind == "report_sent"
                    )
                ).all()
            )

    before = sent()
    page = page_of(Role.OPERATOR, f"/studies/{uid}")
    form = page.locator("form[action$='/resend']")
    details = page.locator("details", has=form)
    if details.count() and not details.first.evaluate("item => item.open"):
        details.first.locator("summary").click()
    form.get_by_label("Reason").fill("the ward lost it")
    form.get_by_role("button").click()
    expect(page.get_by_role("status")).to_be_visible()
    wait_for("the report to be sent again", lambda: sent() > before, 60)
    page.reload()
    expect(page.locator(".story")).to_contain_text("the ward lost it")


def test_add_a_peer(dashboard: Dashboard, page_of: Callable[..., Page]) -> None:
    node = dashboard.node
    before = node.config_file.read_text()
    asked = ("-aec", "AINODE", "-aet", "NEW_DX")
    assert dcmtk.echoscu(node.port, *asked).returncode != 0
    page = page_of(Role.ADMIN, "/")
    go_to(page, "Peers")
    page.get_by_role("link", name="Add NEW_DX as a peer").click()
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("status")).to_contain_text("The node runs with it.")
    try:
        assert dcmtk.echoscu(node.port, *asked).returncode == 0
    finally:
        node.config_file.write_text(before)
        assert node.cli("reload").returncode == 0


def test_change_a_route_with_a_dry_run(dashboard: Dashboard, page_of: Callable[..., Page]) -> None:
    before = dashboard.node.config_file.read_text()
    page = page_of(Role.ADMIN, "/")
    go_to(page, "Routes")
    page.get_by_role("link", name="Edit").click()
    editor = page.get_by_label("Text of node.yaml")
    editor.fill(editor.input_value().replace("body_part: knee", "body_part: hand"))
    page.get_by_role("button", name="Check and compare").click()
    expect(page.get_by_text("would have changed 2 of 4 studies")).to_be_visible()
    page.get_by_label("Why").fill("hands are new")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("status")).to_contain_text("The node runs with it.")
    try:
        page.get_by_role("link", name="History").click()
        page.locator("tbody tr").nth(1).get_by_role("link").click()
        page.get_by_role("button", name="Roll back to it").click()
        expect(page.get_by_role("status")).to_contain_text("The node runs with it.")
        assert dashboard.node.config_file.read_text() == before
    finally:
        if dashboard.node.config_file.read_text() != before:
            dashboard.node.config_file.write_text(before)
            dashboard.node.cli("reload")


def test_see_why_the_pacs_does_not_take_it(
    dashboard: Dashboard, page_of: Callable[..., Page], tmp_path: Path
) -> None:
    """The PACS goes away; a study is analysed; the page of its peer says what happened."""
    pacs = dashboard.pacs
    uid = dashboard.studies["knee radiograph"].study_uid
    pacs.stop()
    try:
        page = page_of(Role.OPERATOR, f"/studies/{uid}")
        form = page.locator("form[action$='/resend']")
        details = page.locator("details", has=form)
        if details.count() and not details.first.evaluate("item => item.open"):
            details.first.locator("summary").click()
        form.get_by_label("Reason").fill("to see the answer")
        form.get_by_role("button").click()
        expect(page.get_by_role("status")).to_be_visible()
        go_to(page, "Peers")

        def says_why() -> bool:
            page.reload()
            return "it said:" in page.locator("tr", has_text="pacs").first.inner_text()

        wait_for("the reason", says_why, 60)
        page.get_by_role("button", name="C-ECHO to pacs now").click()
        expect(page.get_by_role("status")).to_contain_text("pacs does not answer")
    finally:
        pacs.start()
    dashboard.node.cli("retry", "--peer", "pacs")
    dashboard.node.wait_for_studies([uid], 120)


def test_an_image_of_a_study_may_be_named_by_hand(
    dashboard: Dashboard, page_of: Callable[..., Page]
) -> None:
    page = page_of(Role.OPERATOR, "/routes")
    page.get_by_label("Study Instance UID").fill(str(radiograph().StudyInstanceUID))
    page.get_by_role("button", name="Try this study").click()
    expect(page.get_by_text("it is not in the index")).to_be_visible()
