"""Pipelines: what they do in use, and whether their answers drift."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from dicom_node.inference.bundles import Bundle
from dicom_node.model.access import Role
from dicom_node.store.database import Database
from dicom_node.store.tables import FindingRow, Job, Study
from dicom_node.web.pipelines_page import card_of
from tests.factories import ManualClock
from tests.unit.web.conftest import WebSite

NAME = "knee_kl_ensemble"


def add_jobs(
    database: Database,
    clock: ManualClock,
    version: str,
    number: int,
    *,
    days_ago: float = 0,
    grade: int = 0,
    state: str = "done",
) -> None:
    """Put jobs of a knee pipeline into the database, sure of one grade."""
    end = clock.now() - timedelta(days=days_ago)
    with database.write() as session:
        for item in range(number):
            uid = f"1.2.{days_ago * 10:.0f}.{grade}.{len(state)}.{item}"
            study = Study(
                study_instance_uid=uid, state="settled", first_instance_at=end, last_instance_at=end
            )
            session.add(study)
            session.flush()
            job = Job(
                study_id=study.id,
                pipeline=NAME,
                version=version,
                input_key=uid,
                state=state,
                inputs=[],
                peers=[],
                reason="",
                queued_at=end,
                started_at=end - timedelta(seconds=2 + item % 3),
                finished_at=end,
                run_record={"device_name": "a CPU"},
            )
            session.add(job)
            session.flush()
            if state == "done":
                session.add(FindingRow(job_id=job.id, kind="classification", data=answer(grade)))


def answer(grade: int) -> dict[str, Any]:
    probabilities = [0.05] * 5
    probabilities[grade] = 0.8
    return {
        "question": {"meaning": "Kellgren-Lawrence grade"},
        "labels": [{"code": {"meaning": f"grade {n}"}, "text": f"grade {n}"} for n in range(5)],
        "probabilities": probabilities,
        "prediction_set": [grade],
        "rule": "",
    }


def test_figures_of_use_are_shown(web: WebSite) -> None:
    version = web.context.bundles[NAME].version
    add_jobs(web.database, web.clock, version, 18, days_ago=1)
    add_jobs(web.database, web.clock, version, 1, days_ago=2, state="not_evaluated")
    add_jobs(web.database, web.clock, version, 1, days_ago=2, state="failed")
    add_jobs(web.database, web.clock, "0.0.1", 1, days_ago=3)
    found = {line["name"]: line for line in web.script(Role.VIEWER).get("/api/v1/pipelines").json()}
    figures = found[NAME]["figures"]
    assert figures["states"] == {"done": 18, "not_evaluated": 1, "failed": 1}
    assert figures["median_seconds"] == 3
    assert figures["devices"] == {"a CPU": 19}
    page = web.logged_in(Role.VIEWER).get("/pipelines").text
    assert f"{NAME} 0.0.1: 1 job," in page
    detail = web.logged_in(Role.VIEWER).get(f"/pipelines/{NAME}").text
    assert "5.0 %" in detail
    assert "a CPU (19)" in detail


def test_answers_that_drift_are_marked_and_steady_ones_not(web: WebSite) -> None:
    version = web.context.bundles[NAME].version
    for weeks in (10, 9, 8, 7, 6, 5, 4):
        for grade in range(5):
            add_jobs(
                web.database, web.clock, version, 8, days_ago=7 * weeks + grade / 10, grade=grade
            )
    add_jobs(web.database, web.clock, version, 40, days_ago=7, grade=4)
    detail = web.script(Role.VIEWER).get(f"/api/v1/pipelines/{NAME}").json()
    (scores,) = detail["scores"]
    assert scores["reference_number"] == 200
    psi = [week["psi"] for week in scores["weeks"]]
    assert max(psi[:-1]) < 0.01
    assert psi[-1] > 0.25
    page = web.logged_in(Role.VIEWER).get(f"/pipelines/{NAME}").text
    assert "shifted" in page
    assert "stable" in page


def test_a_pipeline_that_is_not_there_is_said(web: WebSite) -> None:
    assert web.logged_in().get("/pipelines/none").status_code == 404


def test_the_card_is_shown_as_text_with_its_tables(web: WebSite) -> None:
    page = web.logged_in(Role.VIEWER).get(f"/pipelines/{NAME}").text
    assert "model card" in page
    assert "<table>" in page.split("Model card")[1]


def test_markup_in_a_card_stays_text(tmp_path: Path, web: WebSite) -> None:
    known = web.context.bundles[NAME]
    weights = tmp_path / "w.safetensors"
    weights.with_suffix(".md").write_text(
        "# card\n<script>alert(1)</script>\n\n[x](javascript:alert(1)) ![y](data:text/html,z)\n"
    )
    bundle = Bundle(NAME, tmp_path, known.spec, "1", weights, "", False)
    card = card_of(bundle)
    assert card is not None
    assert "<script" not in card
    assert 'href="javascript' not in card
    assert "<h2>card</h2>" in card
