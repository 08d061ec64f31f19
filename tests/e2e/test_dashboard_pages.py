"""The pages Now and Studies in a browser: what they show, at both sizes and in both themes."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from dicom_node.model.access import Role
from tests.e2e.conftest import Dashboard, assert_accessible, shots


def test_now_shows_what_goes_through(dashboard: Dashboard, page_of: Callable[..., Page]) -> None:
    page = page_of(Role.VIEWER, "/")
    expect(page.get_by_role("heading", name="Now", exact=True)).to_be_visible()
    expect(page.locator("#live")).to_have_attribute("data-state", "on")
    received = page.locator(".metric", has_text="Received").locator("dd").first
    expect(received).to_have_text("4")
    expect(page.locator("tr", has_text="pacs").first).to_contain_text(
        str(dashboard.pacs.dicom_port)
    )
    assert_accessible(page)
    shots(page, "now")


def test_studies_are_listed_and_masked_for_a_viewer(
    dashboard: Dashboard, page_of: Callable[..., Page]
) -> None:
    page = page_of(Role.VIEWER, "/studies")
    expect(page.locator("table.studies tbody tr")).to_have_count(4)
    assert "Jane" not in page.content()
    operator = page_of(Role.OPERATOR, "/studies")
    expect(operator.get_by_role("link", name="Doe, Jane")).to_be_visible()
    assert_accessible(operator)
    shots(operator, "studies")


def test_a_study_is_found_by_its_patient_without_a_name_in_the_address(
    dashboard: Dashboard, page_of: Callable[..., Page]
) -> None:
    page = page_of(Role.OPERATOR, "/studies")
    page.get_by_label("Patient, accession number or UID").fill("jane do")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("table.studies tbody tr")).to_have_count(1)
    assert "jane" not in page.url.lower()
    page.get_by_role("link", name="Doe, Jane").click()
    expect(page.get_by_role("heading", name=re.compile("Doe"))).to_be_visible()
    page.go_back()
    expect(page.locator("table.studies tbody tr")).to_have_count(1)


@pytest.mark.parametrize("name", ["knee radiograph", "abdominal CT"])
def test_a_studys_page_tells_its_whole_story(
    dashboard: Dashboard, page_of: Callable[..., Page], name: str
) -> None:
    study = dashboard.studies[name]
    page = page_of(Role.OPERATOR, f"/studies/{study.study_uid}")
    expect(page.locator(".statement").first).to_contain_text(study.statement_has)
    expect(page.locator(".picture img").first).to_be_visible()
    wide = page.locator(".picture img").first.evaluate("image => image.naturalWidth")
    assert wide > 100
    page.get_by_text("The report as text").first.click()
    expect(page.locator("pre").first).to_contain_text("Made by")
    story = page.locator(".story")
    expect(story).to_contain_text("began to send it")
    expect(story).to_contain_text("Routed to")
    expect(story).to_contain_text("pacs stored an object")
    assert_accessible(page)
    shots(page, f"study {name}")


def test_a_study_that_no_route_wants_says_why(
    dashboard: Dashboard, page_of: Callable[..., Page]
) -> None:
    page = page_of(Role.OPERATOR, f"/studies/{dashboard.unrouted}")
    expect(page.locator(".note.warn")).to_contain_text("No pipeline runs")
    routing = page.locator("#routing")
    row = routing.locator("tr", has_text="body_part").first
    expect(row).to_contain_text("HAND")
    assert_accessible(page)
    shots(page, "study unrouted")


def test_the_log_holds_no_patient_after_pages_searches_and_errors(
    dashboard: Dashboard, page_of: Callable[..., Page]
) -> None:
    page = page_of(Role.OPERATOR, "/studies")
    page.get_by_label("Patient, accession number or UID").fill("Doe Jane")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="Doe, Jane").click()
    page.goto("/studies/Doe^Jane")
    expect(page.get_by_role("heading", name="not in the index")).to_be_visible()
    log = dashboard.node.log.read_text()
    assert "web_started" in log
    for word in ("doe^", "jane", "demo-knee"):
        assert word not in log.lower(), word
