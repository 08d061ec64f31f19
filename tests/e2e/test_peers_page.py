"""Peers and pipelines in a browser."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from dicom_node.model.access import Role
from tests.e2e.conftest import Dashboard, assert_accessible, shots
from tests.peers import dcmtk


def test_a_peer_is_asked_now(dashboard: Dashboard, page_of: Callable[..., Page]) -> None:
    page = page_of(Role.OPERATOR, "/peers")
    page.get_by_role("button", name="C-ECHO to pacs now").click()
    expect(page.get_by_role("status")).to_contain_text("pacs answered in")
    expect(page.locator("tr", has_text="pacs").first).to_contain_text("yes")
    page.get_by_role("button", name="C-ECHO to xray now").click()
    expect(page.get_by_role("status")).to_contain_text("xray does not answer")
    assert_accessible(page)
    shots(page, "peers")


def test_an_unknown_caller_becomes_a_peer(
    dashboard: Dashboard, page_of: Callable[..., Page]
) -> None:
    node = dashboard.node
    before = node.config_file.read_text()
    asked = ("-aec", "AINODE", "-aet", "CT_ROOM_4")
    assert dcmtk.echoscu(node.port, *asked).returncode != 0
    page = page_of(Role.ADMIN, "/peers")
    row = page.locator("tr", has_text="CT_ROOM_4")
    expect(row).to_contain_text("127.0.0.1")
    row.get_by_role("link", name="Add CT_ROOM_4 as a peer").click()
    assert page.get_by_label("AE title").input_value() == "CT_ROOM_4"
    assert page.get_by_label("Host").input_value() == "127.0.0.1"
    assert_accessible(page)
    shots(page, "add peer")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".diff")).to_contain_text("ae_title: CT_ROOM_4")
    expect(page.get_by_label("Why")).to_have_value("add the peer ct-room-4")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("status")).to_contain_text("The node runs with it.")
    try:
        assert dcmtk.echoscu(node.port, *asked).returncode == 0
        page.goto("/peers")
        expect(page.locator("tr", has_text="ct-room-4").first).to_contain_text("sends")
    finally:
        node.config_file.write_text(before)
        assert node.cli("reload").returncode == 0
    assert dcmtk.echoscu(node.port, *asked).returncode != 0


def test_pipelines_show_their_use_weights_and_card(
    dashboard: Dashboard, page_of: Callable[..., Page]
) -> None:
    page = page_of(Role.VIEWER, "/pipelines")
    row = page.locator("tr", has_text="knee_kl_ensemble")
    expect(row).to_contain_text("demonstration")
    assert_accessible(page)
    shots(page, "pipelines")
    row.get_by_role("link", name="knee_kl_ensemble").click()
    expect(page.get_by_role("heading", name="Throughput by day")).to_be_visible()
    expect(page.locator("svg.bars rect")).not_to_have_count(0)
    expect(page.get_by_text("What it answers: Kellgren-Lawrence grade")).to_be_visible()
    expect(page.get_by_role("region", name="Model card")).to_contain_text("model card")
    digest = page.locator("dt", has_text="SHA-256").locator("xpath=following-sibling::dd[1]")
    assert len(digest.inner_text()) == 64
    assert_accessible(page)
    shots(page, "pipeline")
