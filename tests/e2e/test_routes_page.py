"""Routes in a browser: the rules, trying a study, editing with history."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect
from pydicom import dcmwrite

from dicom_node.model.access import Role
from tests.e2e.conftest import Dashboard, assert_accessible, shots
from tests.factories import radiograph


def test_the_rules_are_shown(dashboard: Dashboard, page_of: Callable[..., Page]) -> None:
    page = page_of(Role.ADMIN, "/routes")
    rules = page.get_by_role("region", name="Rules, in their order")
    expect(rules.locator("tbody tr")).to_have_count(3)
    expect(rules).to_contain_text("body part knee")
    assert_accessible(page)
    shots(page, "routes")
    rules.get_by_role("link", name="knee_kl_ensemble").click()
    expect(page.get_by_role("heading", name="knee_kl_ensemble", level=1)).to_be_visible()


def test_files_are_tried_and_a_study_by_its_uid(
    dashboard: Dashboard, page_of: Callable[..., Page], tmp_path: Path
) -> None:
    page = page_of(Role.OPERATOR, "/routes")
    hand = tmp_path / "hand.dcm"
    dcmwrite(hand, radiograph(BodyPartExamined="HAND"), enforce_file_format=True)
    (tmp_path / "notes.txt").write_text("no image")
    page.get_by_label("DICOM files").set_input_files([hand, tmp_path / "notes.txt"])
    page.get_by_role("button", name="Try these files").click()
    expect(page.get_by_text("No pipeline runs and nothing is sent.")).to_be_visible()
    expect(page.get_by_text("1 file left out")).to_be_visible()
    expect(page.locator("tr", has_text="body_part").first).to_contain_text("HAND")
    assert_accessible(page)
    shots(page, "try files")

    page.goto("/routes")
    uid = dashboard.studies["knee radiograph"].study_uid
    page.get_by_label("Study Instance UID").fill(uid)
    page.get_by_role("button", name="Try this study").click()
    expect(page.locator(".note.good")).to_contain_text("knee_kl_ensemble runs on 1 image")
    expect(page.locator(".note.good")).to_contain_text("go to pacs")
    shots(page, "try study")


def test_dropping_files_fills_the_form(dashboard: Dashboard, page_of: Callable[..., Page]) -> None:
    page = page_of(Role.OPERATOR, "/routes")
    page.evaluate(
        """() => {
            const data = new DataTransfer();
            data.items.add(new File(["x"], "x.dcm"));
            const area = document.querySelector(".drop");
            area.dispatchEvent(new DragEvent("drop", {dataTransfer: data, cancelable: true}));
        }"""
    )
    assert page.get_by_label("DICOM files").evaluate("field => field.files.length") == 1
    page.get_by_role("button", name="Try these files").click()
    expect(page.get_by_text("none has a DICOM header")).to_be_visible()


def test_a_mistake_is_shown_with_its_line_and_the_text_stays(
    dashboard: Dashboard, page_of: Callable[..., Page]
) -> None:
    page = page_of(Role.ADMIN, "/routes")
    page.get_by_role("link", name="Edit").click()
    editor = page.get_by_label("Text of node.yaml")
    text = editor.input_value()
    editor.fill(text.replace("send_to", "sendto", 1))
    page.get_by_role("button", name="Check and compare").click()
    expect(page.get_by_role("alert")).to_contain_text("did you mean `send_to`?")
    assert "sendto" in editor.input_value()
    assert_accessible(page)
    shots(page, "edit mistake")


def test_a_route_is_changed_with_a_dry_run_and_taken_back(
    dashboard: Dashboard, page_of: Callable[..., Page]
) -> None:
    file = dashboard.node.config_file
    before = file.read_text()
    page = page_of(Role.ADMIN, "/routes/edit")
    editor = page.get_by_label("Text of node.yaml")
    changed = editor.input_value().replace("body_part: knee", "body_part: ankle")
    assert changed != editor.input_value()
    editor.fill(changed)
    page.get_by_label("Why").fill("the ankle clinic")
    page.get_by_role("button", name="Check and compare").click()
    expect(page.get_by_text("would have changed 1 of 4 studies")).to_be_visible()
    expect(page.locator(".diff .added")).to_contain_text("ankle")
    knee = dashboard.studies["knee radiograph"].study_uid
    row = page.locator("tr", has_text=knee)
    expect(row).to_contain_text("knee_kl_ensemble on 1 image")
    expect(row).to_contain_text("nothing runs")
    assert_accessible(page)
    shots(page, "proposal")
    assert file.read_text() == before
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("status")).to_contain_text("The node runs with it.")
    rules = page.get_by_role("region", name="Rules, in their order")
    expect(rules).to_contain_text("body part ankle")
    try:
        page.get_by_role("link", name="History").click()
        expect(page.locator("tbody tr").first).to_contain_text("the ankle clinic")
        assert_accessible(page)
        shots(page, "history")
        page.locator("tbody tr").nth(1).get_by_role("link").click()
        expect(page.locator(".diff .removed")).to_contain_text("ankle")
        shots(page, "earlier configuration")
        page.get_by_role("button", name="Roll back to it").click()
        expect(page.get_by_role("status")).to_contain_text("The node runs with it.")
        assert file.read_text() == before
    finally:
        if file.read_text() != before:
            file.write_text(before)
            dashboard.node.cli("reload")


def test_a_file_with_mistakes_is_shown_and_reload_says_so(
    dashboard: Dashboard, page_of: Callable[..., Page]
) -> None:
    file = dashboard.node.config_file
    before = file.read_text()
    file.write_text(before.replace("routes:", "ruotes:"))
    try:
        page = page_of(Role.ADMIN, "/routes")
        expect(page.get_by_role("alert")).to_contain_text("did you mean `routes`?")
        page.get_by_role("button", name="Reload node.yaml").click()
        expect(page.get_by_role("status")).to_contain_text("Not taken")
        shots(page, "bad file")
        page.goto("/")
        expect(page.get_by_text("node.yaml and the node differ")).to_be_visible()
        page.goto("/routes")
    finally:
        file.write_text(before)
    page.get_by_role("button", name="Reload node.yaml").click()
    expect(page.get_by_role("status")).to_contain_text("Taken.")
    expect(page.get_by_role("alert")).to_have_count(0)
