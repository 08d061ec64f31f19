"""One study's page: its whole story, what was found, what was made and where it went."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from dicom_node.errors import NodeError
from dicom_node.model.decisions import Decision
from dicom_node.routing import decide
from dicom_node.routing.explain import as_json as decision_json
from dicom_node.serve.story import Step, story
from dicom_node.store import audit
from dicom_node.store.kept import KeptFile
from dicom_node.store.whole import Whole, facts_of, report_file, whole
from dicom_node.web import objects
from dicom_node.web.callers import Caller
from dicom_node.web.context import WebContext
from dicom_node.web.failures import NotThereError
from dicom_node.web.found import finding_lines
from dicom_node.web.looking import tell_patients_shown
from dicom_node.web.requests import Context, Read, Viewer, page

router = APIRouter(include_in_schema=False)

_MOST_EVENTS = 2000


@router.get("/studies/{study_uid}")
def study_page(
    request: Request, context: Context, session: Read, caller: Viewer, study_uid: str
) -> Response:
    """The whole of one study."""
    found = study_of(session, study_uid)
    told = routing_of(context, session, found, caller)
    steps = steps_of(session, study_uid)
    tell_patients_shown(context, caller, [study_uid])
    peers = {way.peer for job in found.jobs for report in job.reports for way in report.deliveries}
    return page(
        request,
        "study.html",
        study=found,
        routing=told,
        steps=steps,
        findings={job.id: finding_lines(job.findings) for job in found.jobs},
        texts=_texts(context, found),
        hidden=_hidden(context, found, caller),
        patients_for=context.web.patients_for,
        peers=sorted(peers),
        pipelines=list(dict.fromkeys(job.pipeline for job in found.jobs)),
    )


@router.get("/studies/{study_uid}/objects/{report_id}/picture.png")
def picture(
    context: Context,
    session: Read,
    caller: Viewer,
    study_uid: str,
    report_id: int,
    frame: Annotated[int, Query(ge=0, le=10_000)] = 0,
) -> Response:
    """The picture of an object that was made."""
    return Response(
        picture_png(context, session, caller, study_uid, report_id, frame),
        media_type="image/png",
    )


def study_of(session: Session, study_uid: str) -> Whole:
    """Return a study.

    Raises:
        NotThereError: It is not in the index.
    """
    found = whole(session, study_uid)
    if found is None:
        raise NotThereError("this study", "it is not in the index", "search for it in Studies")
    return found


def steps_of(session: Session, study_uid: str) -> list[Step]:
    """Return a study's story, oldest first."""
    return story(audit.events_of(session, study_uid))[-_MOST_EVENTS:]


def routing_of(
    context: WebContext, session: Session, study: Whole, caller: Caller
) -> dict[str, Any]:
    """Return how each route judges the study, by node.yaml as it is now."""
    facts = facts_of(session, study.id, study.study_uid)
    specs = {name: bundle.spec for name, bundle in context.bundles.items()}
    config = context.config
    decision: Decision = decide(config.routes, specs, facts, config.peers)
    told = decision_json(decision)
    if not caller.sees_patients:
        _mask(told)
    return told


def picture_png(
    context: WebContext,
    session: Session,
    caller: Caller,
    study_uid: str,
    report_id: int,
    frame: int,
) -> bytes:
    """Return the picture of an object of this study.

    Raises:
        NotAllowedError: It may name the patient, and the caller sees no patients.
        NotThereError: The study has no such object, or its file was purged.
        NodeError: It has no picture.
    """
    return objects.picture_of(_object(context, session, study_uid, report_id), caller, frame)


def object_text(context: WebContext, session: Session, study_uid: str, report_id: int) -> str:
    """Return an SR of this study as text.

    Raises:
        NotThereError: The study has no such object, or its file was purged.
        NodeError: It is no SR.
    """
    return objects.text_of(_object(context, session, study_uid, report_id))


def _object(
    context: WebContext, session: Session, study_uid: str, report_id: int
) -> Path | BinaryIO:
    found = report_file(session, study_uid, report_id)
    if found is None:
        raise NotThereError("this object", "the study has none of this number", "load its page")
    return _opened(context, found)


def _opened(context: WebContext, kept: KeptFile) -> Path | BinaryIO:
    """Return an object, whichever host holds it.

    Raises:
        NotThereError: It is not there, or its host does not answer.
    """
    if kept.host in (None, context.config.this_host):
        return objects.file_of(context.config.reports_dir, kept.path)
    try:
        return BytesIO(context.files.read(kept))
    except NodeError as error:
        raise NotThereError("this object", f"{error.what}: {error.why}", error.fix) from None


def _texts(context: WebContext, study: Whole) -> dict[int, str]:
    return {report: objects.text_of(file) for report, file in _there(context, study, "SR")}


def _hidden(context: WebContext, study: Whole, caller: Caller) -> set[int]:
    """The secondary captures that the caller may not see."""
    if caller.sees_patients:
        return set()
    pictures = _there(context, study, "SC")
    return {report for report, file in pictures if objects.is_hidden(file, caller)}


def _there(context: WebContext, study: Whole, kind: str) -> Iterator[tuple[int, Path | BinaryIO]]:
    """The objects of a kind that can be had at the moment, by their report's id."""
    for job in study.jobs:
        for report in job.reports:
            if report.kind == kind and report.is_there:
                try:
                    file = _opened(context, report.kept)
                except NotThereError:
                    continue
                yield report.id, file


def _mask(decision: dict[str, Any]) -> None:
    """A route may ask for the patient's own values: those it saw are not for everybody."""
    groups = [group for route in decision["routes"] for group in route["groups"]]
    groups += [group for job in decision["jobs"] for group in job["selection"]]
    for group in groups:
        for verdict in group["conditions"]:
            if "patient" in f"{verdict['condition']} {verdict['where']}".lower():
                verdict["seen"] = "(hidden)"
