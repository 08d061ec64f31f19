"""The list of studies and one study's page: who is found, who is shown, who is hidden."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select

from dicom_node.model.access import Role
from dicom_node.store import held
from dicom_node.store.tables import AuditEvent, Job
from tests.factories import report_row
from tests.unit.results import samples
from tests.unit.web.conftest import WebSite
from tests.unit.web.studies import came, settled


def _search(web: WebSite, role: Role, **form: str) -> str:
    browser = web.logged_in(role)
    answer = browser.post("/studies", data=form)
    assert answer.status_code == 303
    return browser.get(answer.headers["location"]).text


@pytest.mark.parametrize("text", ["müller", "MULLER ann", "A17", "1.2.840.1", "acc-9"])
def test_a_study_is_found_by_any_beginning_of_its_words(web: WebSite, text: str) -> None:
    came(web, 1, PatientName="Müller^Anna", PatientID="A17-3", AccessionNumber="ACC-99")
    came(web, 2, PatientName="Smith^John", PatientID="B2")
    found = _search(web, Role.OPERATOR, text=text)
    assert "Müller, Anna" in found
    assert "Smith" not in found


def test_every_word_must_fit(web: WebSite) -> None:
    came(web, 1, PatientName="Doe^Jane")
    assert "No study fits" in _search(web, Role.OPERATOR, text="doe john")


def test_a_viewer_sees_no_patient_and_finds_none_by_name(web: WebSite) -> None:
    # a long name: three letters alike come up in a page's random token once in some thousand times
    uid = came(web, 1, PatientName="Featherstone^A", PatientID="SECRET-1", AccessionNumber="ACC-1")
    browser = web.logged_in(Role.VIEWER)
    for path in ("/studies", f"/studies/{uid}"):
        text = browser.get(path).text
        assert "Featherstone" not in text
        assert "SECRET-1" not in text
    assert "No study fits" in _search(web, Role.VIEWER, text="featherstone")
    assert "No study fits" in _search(web, Role.VIEWER, text="SECRET-1")
    assert "ACC-1" in _search(web, Role.VIEWER, text="acc-1")


def _picture(web: WebSite, said: str | None) -> tuple[str, str]:
    """A study with a secondary capture that says this of burned-in words; its UID and address."""
    uid = settled(web)
    sc = samples.knee_header(SamplesPerPixel=3, PhotometricInterpretation="RGB")
    sc.Rows = sc.Columns = 4
    sc.BitsAllocated, sc.BitsStored, sc.HighBit = 8, 8, 7
    sc.PixelRepresentation = sc.PlanarConfiguration = 0
    sc.PixelData = bytes(4 * 4 * 3)
    if said is not None:
        sc.BurnedInAnnotation = said
    folder = web.context.config.reports_dir
    folder.mkdir(parents=True, exist_ok=True)
    sc.save_as(folder / "sc.dcm", enforce_file_format=True)
    now = web.clock.now()
    with web.database.write() as session:
        job = Job(
            study_id=held.find(session, uid).id,
            pipeline="p",
            version="1",
            input_key="k",
            state="done",
            inputs=[],
            peers=[],
            reason="",
            queued_at=now,
        )
        session.add(job)
        session.flush()
        number = report_row(session, job.id, now, kind="SC", path="sc.dcm").id
    return uid, f"/studies/{uid}/objects/{number}/picture"


@pytest.mark.parametrize(
    ("role", "said", "shown"),
    [
        (Role.VIEWER, "YES", False),
        (Role.VIEWER, None, False),
        (Role.VIEWER, "NO", True),
        (Role.OPERATOR, "YES", True),
    ],
)
def test_a_picture_that_may_name_the_patient_is_for_those_who_see_patients(
    web: WebSite, role: Role, said: str | None, shown: bool
) -> None:
    uid, address = _picture(web, said)
    browser = web.logged_in(role)
    page = browser.get(f"/studies/{uid}").text
    assert (f'src="{address}.png"' in page) is shown
    assert (f'href="{address}.png"' in page) is shown
    assert ("The picture is not shown" in page) is not shown
    for answer in (
        browser.get(f"{address}.png"),
        web.script(role).get(f"/api/v1{address}"),
    ):
        assert answer.status_code == (200 if shown else 403)
        assert answer.content.startswith(b"\x89PNG") is shown
        assert shown or "Burned In Annotation" in answer.text


def test_where_viewers_see_patients_they_see_every_picture(
    make_site: Callable[..., WebSite],
) -> None:
    web = make_site(web={"patients_for": "viewer"})
    uid, address = _picture(web, "YES")
    browser = web.logged_in(Role.VIEWER)
    assert f'src="{address}.png"' in browser.get(f"/studies/{uid}").text
    assert browser.get(f"{address}.png").status_code == 200


def test_each_look_at_a_patient_is_written_down(web: WebSite) -> None:
    first, second = came(web, 1), came(web, 2)
    web.logged_in(Role.VIEWER).get("/studies")
    browser = web.logged_in(Role.OPERATOR)
    browser.get("/studies")
    browser.get(f"/studies/{first}")
    with web.database.read() as session:
        seen = session.scalars(
            select(AuditEvent).where(AuditEvent.kind == "patients_shown").order_by(AuditEvent.id)
        ).all()
        told = [(event.study_uid, event.data["by"], event.data["studies"]) for event in seen]
    assert told == [
        (None, "the-operator", [second, first]),
        (first, "the-operator", None),
    ]


def test_a_script_s_look_at_a_picture_is_written_down(web: WebSite) -> None:
    uid, address = _picture(web, "YES")
    assert web.script(Role.OPERATOR).get(f"/api/v1{address}").status_code == 200
    with web.database.read() as session:
        (seen,) = session.scalars(select(AuditEvent).where(AuditEvent.kind == "patients_shown"))
        assert seen.study_uid == uid


def test_what_was_searched_for_is_not_in_the_address(web: WebSite) -> None:
    came(web, 1)
    browser = web.logged_in(Role.OPERATOR)
    answer = browser.post("/studies", data={"text": "Doe1 Jane"})
    address = answer.headers["location"]
    # the address is random text: three letters alike come up in it once in some hundred times
    assert "Doe1" not in address
    assert "Jane" not in address
    other = web.logged_in(Role.OPERATOR)
    assert 'value="Doe1 Jane"' in browser.get(address).text
    # another session cannot read it
    assert "Doe1 Jane" not in other.get(address).text.partition("<table")[0]


def test_the_list_goes_on_fifty_at_a_time(web: WebSite) -> None:
    for number in range(1, 53):
        came(web, number)
    browser = web.logged_in(Role.OPERATOR)
    first = browser.get("/studies").text
    assert first.count("row-link") == 50
    assert "Doe52, Jane" in first
    rest = browser.get("/studies?before=3").text
    assert rest.count("row-link") == 2
    assert "These are all" in rest


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("sender=XR", {"1.2.840.1", "1.2.840.2"}),
        ("sender=CT1", {"1.2.840.3"}),
        ("since=2026-02-01", {"1.2.840.2"}),
        ("until=2026-01-31", {"1.2.840.1"}),
        ("state=receiving", {"1.2.840.1", "1.2.840.3"}),
        ("state=held", set()),
        ("state=attention", set()),
        ("state=no-such-state", {"1.2.840.1", "1.2.840.2", "1.2.840.3"}),
    ],
)
def test_the_list_is_narrowed(web: WebSite, query: str, found: set[str]) -> None:
    came(web, 1, StudyDate="20260115")
    settled(web, 2, StudyDate="20260215")
    came(web, 3, sender="CT1")
    text = web.logged_in(Role.OPERATOR).get(f"/studies?{query}").text
    assert {f"1.2.840.{n}" for n in (1, 2, 3) if f'/studies/1.2.840.{n}"' in text} == found


def test_a_study_says_why_no_route_wants_it(web: WebSite) -> None:
    uid = settled(web, 1, BodyPartExamined="HAND", Rows=64, Columns=48)
    text = web.logged_in(Role.OPERATOR).get(f"/studies/{uid}").text
    assert "does not match" in text
    assert "HAND" in text


def test_an_unknown_study_is_not_there(web: WebSite) -> None:
    answer = web.logged_in().get("/studies/1.2.3")
    assert answer.status_code == 404
    assert "not in the index" in answer.text
