"""The buttons of a study's page, by clicks only: each does what it says, and the story tells it."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect
from sqlalchemy import select

from dicom_node.model.access import Role
from dicom_node.store.tables import AuditEvent
from tests.e2e.conftest import (
    Dashboard,
    assert_accessible,
    shots,
    wait_until_ended,
)


def _decide(page: Page, title: str, button: str, reason: str) -> None:
    """Open a decision, give the reason, press its button; by keyboard."""
    summary = page.locator("details.act summary", has_text=title)
    summary.focus()
    page.keyboard.press("Enter")
    form = page.locator("details.act[open]")
    form.get_by_label("Reason").fill(reason)
    form.get_by_role("button", name=button).press("Enter")
    expect(page.get_by_role("status")).to_be_visible()


def test_a_study_is_put_aside_seen_on_now_and_released(
    dashboard: Dashboard, page_of: Callable[..., Page]
) -> None:
    uid = dashboard.studies["hip radiograph"].study_uid
    page = page_of(Role.OPERATOR, f"/studies/{uid}")
    _decide(page, "Quarantine", "Hold the study", "the ward is asked")
    expect(page.locator(".note.bad").first).to_contain_text("put aside by operator")
    now = page_of(Role.VIEWER, "/")
    need = now.locator(".need", has_text="A study is held")
    expect(need).to_contain_text("the ward is asked")
    shots(now, "now held")
    assert_accessible(now)
    need.get_by_role("link").click()
    expect(now.locator(".states").first).to_contain_text("held")
    page.reload()
    _decide(page, "Release", "Release the study", "it is the right patient")
    expect(page.locator(".story")).to_contain_text("Released by operator")
    expect(page.locator(".story")).to_contain_text("it is the right patient")
    shots(page, "study released")
    now.goto("/")
    expect(now.locator(".need", has_text="A study is held")).to_have_count(0)


def test_now_hears_of_a_held_study_without_being_loaded_again(
    dashboard: Dashboard, page_of: Callable[..., Page]
) -> None:
    uid = dashboard.studies["hip radiograph"].study_uid
    now = page_of(Role.VIEWER, "/")
    expect(now.locator("#live")).to_have_attribute("data-state", "on")
    assert dashboard.node.cli("hold", uid, "--reason", "seen live").returncode == 0
    expect(now.locator(".need", has_text="seen live")).to_be_visible()
    assert now.title().startswith("(")
    assert dashboard.node.cli("release", uid, "--reason", "done").returncode == 0
    expect(now.locator(".need", has_text="seen live")).to_have_count(0)


def test_reports_are_sent_again(dashboard: Dashboard, page_of: Callable[..., Page]) -> None:
    uid = dashboard.studies["knee radiograph"].study_uid
    page = page_of(Role.OPERATOR, f"/studies/{uid}")
    _decide(page, "Send again", "Send it again", "lost in the migration")
    wait_until_ended(dashboard, uid)
    page.reload()
    expect(page.locator(".story")).to_contain_text("Sent again, as asked by operator")
    expect(page.locator(".story")).to_contain_text("lost in the migration")


def test_a_study_is_run_and_routed_again(
    dashboard: Dashboard, page_of: Callable[..., Page]
) -> None:
    uid = dashboard.studies["knee radiograph"].study_uid
    page = page_of(Role.ADMIN, f"/studies/{uid}")
    _decide(page, "Run again", "Run it again", "the answer is doubted")
    wait_until_ended(dashboard, uid)
    page.reload()
    expect(page.locator(".story")).to_contain_text("queued again by admin")
    _decide(page, "Route again", "Route it again", "a route was added")
    wait_until_ended(dashboard, uid)
    page.reload()
    expect(page.locator(".story")).to_contain_text("To be routed again by admin")


def test_a_study_is_discarded_after_its_reason_is_given(
    dashboard: Dashboard, page_of: Callable[..., Page]
) -> None:
    page = page_of(Role.OPERATOR, f"/studies/{dashboard.unrouted}")
    page.locator("details.act summary", has_text="Discard").click()
    button = page.get_by_role("button", name="Discard the study")
    button.click()
    # the browser asks for the reason first: nothing was sent
    assert page.url.endswith(dashboard.unrouted)
    expect(page.get_by_role("status")).to_have_count(0)
    page.locator("details.act[open]").get_by_label("Reason").fill("a test image")
    button.click()
    expect(page.locator(".story")).to_contain_text("Discarded by operator")
    with dashboard.node.database.read() as session:
        query = select(AuditEvent.data).where(AuditEvent.kind == "study_discarded")
        assert [data["reason"] for data in session.scalars(query)] == ["a test image"]


def test_a_viewer_has_no_buttons(dashboard: Dashboard, page_of: Callable[..., Page]) -> None:
    uid = dashboard.studies["knee radiograph"].study_uid
    page = page_of(Role.VIEWER, f"/studies/{uid}")
    expect(page.get_by_role("heading", name="What happened")).to_be_visible()
    expect(page.locator("details.act")).to_have_count(0)
    assert "Phantom" not in page.content()


def test_the_colours_follow_the_switch_and_stay(
    dashboard: Dashboard, page_of: Callable[..., Page]
) -> None:
    page = page_of(Role.VIEWER, "/studies")
    page.emulate_media(color_scheme="light")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Switch between light and dark").click()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert light != dark
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_log_in_and_out_by_keyboard(dashboard: Dashboard, page_of: Callable[..., Page]) -> None:
    page = page_of(Role.VIEWER, "/studies")
    page.context.clear_cookies()
    page.goto("/studies")
    assert_accessible(page)
    shots(page, "log in")
    page.get_by_label("Name").fill("viewer")
    page.keyboard.press("Tab")
    page.keyboard.type("a long enough password")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Studies")).to_be_visible()
    page.get_by_role("button", name="Log out").press("Enter")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    page.goto("/studies")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
