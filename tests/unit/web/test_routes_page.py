"""Routes: trying, changing and taking back, as a browser and a script do it."""

from __future__ import annotations

import io

import yaml
from pydicom import dcmwrite
from sqlalchemy import select

from dicom_node.model.access import Role
from dicom_node.store import configurations
from dicom_node.store.tables import AuditEvent
from tests.factories import radiograph
from tests.unit.web.conftest import WebSite


def encoded(**attributes: str) -> bytes:
    image = radiograph()
    for keyword, value in attributes.items():
        setattr(image, keyword, value)
    written = io.BytesIO()
    dcmwrite(written, image, enforce_file_format=True)
    return written.getvalue()


def current(web: WebSite) -> dict[str, str]:
    found: dict[str, str] = web.script().get("/api/v1/configuration").json()
    return found


def with_route(text: str, name: str) -> str:
    held = yaml.safe_load(text)
    held["routes"][0]["name"] = name
    return yaml.safe_dump(held, sort_keys=False)


def test_the_rules_are_a_table_of_words(web: WebSite) -> None:
    page = web.logged_in(Role.VIEWER).get("/routes").text
    assert "DX; body part knee" in page
    assert "knee_kl_ensemble" in page
    assert "/routes/edit" not in page
    assert "/routes/edit" in web.logged_in(Role.ADMIN).get("/routes").text


def test_dropped_files_are_explained_condition_by_condition_and_not_kept(web: WebSite) -> None:
    files = [("files", ("a.dcm", encoded(BodyPartExamined="HAND"))), ("files", ("b.txt", b"no"))]
    answer = web.logged_in(Role.OPERATOR).post("/routes/try", files=files, data={"sender": "XR"})
    assert answer.status_code == 200
    assert "No pipeline runs" in answer.text
    assert "body_part" in answer.text
    assert "1 file left out" in answer.text
    with web.database.read() as session:
        assert configurations.history(session) == []
        (event,) = session.scalars(select(AuditEvent).where(AuditEvent.kind == "study_tried"))
        assert event.data == {"by": "the-operator", "files": 2}
    assert not list(web.context.config.node.data_dir.rglob("*.dcm"))


def test_a_script_gets_the_same_as_json(web: WebSite) -> None:
    answer = web.script(Role.OPERATOR).post(
        "/api/v1/routes/try", files=[("files", ("a.dcm", encoded(BodyPartExamined="KNEE")))]
    )
    (study,) = answer.json()["studies"]
    assert study["routes"][0]["route"] == "knees"
    assert study["images"] == 1


def test_markup_in_a_header_stays_text(web: WebSite) -> None:
    bad = encoded(BodyPartExamined="<script>x", SeriesDescription="<img src=x onerror=alert(1)>")
    answer = web.logged_in().post("/routes/try", files=[("files", ('"><b>.dcm', bad))])
    assert "<script>x" not in answer.text
    assert "<img src=x" not in answer.text
    assert "&lt;script&gt;x" in answer.text.lower()


def test_a_study_that_is_not_here_is_said(web: WebSite) -> None:
    assert web.logged_in().post("/routes/try", data={"study": "1.2.3"}).status_code == 404
    assert web.logged_in().post("/routes/try", data={"study": "x"}).status_code == 422
    assert web.logged_in().post("/routes/try", data={"study": ""}).status_code == 422


def test_mistakes_are_told_with_their_lines_and_nothing_is_written(web: WebSite) -> None:
    now = current(web)
    answer = web.logged_in().post(
        "/routes/propose",
        data={"text": now["text"].replace("routes:", "ruotes:"), "base": now["base"]},
    )
    assert answer.status_code == 422
    assert "did you mean `routes`?" in answer.text
    assert "ruotes:" in answer.text
    assert current(web) == now


def test_a_change_is_compared_applied_and_taken_back(web: WebSite) -> None:
    admin = web.logged_in()
    first = current(web)
    text = with_route(first["text"], "all knees")
    compared = admin.post("/routes/propose", data={"text": text, "base": first["base"]})
    assert compared.status_code == 200
    assert "+- name: all knees" in compared.text
    form = {"text": text, "base": first["base"], "why": "as the wards say it"}
    assert admin.post("/routes/apply", data=form).status_code == 303
    assert web.context.config_file.read_text() == text
    assert "all knees" in admin.get("/routes").text
    history = web.script().get("/api/v1/configuration/history").json()
    assert [line["why"] for line in history] == ["as the wards say it", "found in the file"]
    assert history[0]["by"] == "the-admin"

    earlier = admin.get(f"/routes/history/{history[1]['id']}").text
    assert "-- name: all knees" in earlier
    back = web.script().post(
        f"/api/v1/configuration/history/{history[1]['id']}/rollback",
        json={"base": current(web)["base"], "why": "it was wrong"},
    )
    assert back.status_code == 200, back.text
    assert current(web)["text"] == first["text"]


def test_a_file_that_was_changed_meanwhile_is_not_written_over(web: WebSite) -> None:
    now = current(web)
    file = web.context.config_file
    file.write_text(now["text"] + "# by hand\n")
    form = {"text": with_route(now["text"], "x"), "base": now["base"], "why": "y"}
    answer = web.logged_in().post("/routes/apply", data=form)
    assert answer.status_code == 409
    assert "changed meanwhile" in answer.text
    assert file.read_text().endswith("# by hand\n")


def test_only_an_admin_changes_and_only_an_operator_tries(web: WebSite) -> None:
    operator, viewer = web.logged_in(Role.OPERATOR), web.logged_in(Role.VIEWER)
    for path in ("/routes/edit", "/routes/history", "/peers/add"):
        assert operator.get(path).status_code == 403, path
    for path in ("/routes/apply", "/routes/propose", "/routes/reload", "/peers/add"):
        assert operator.post(path).status_code == 403, path
    assert viewer.post("/routes/try", data={"study": "1.2"}).status_code == 403
    assert viewer.post("/peers/pacs/echo").status_code == 403
