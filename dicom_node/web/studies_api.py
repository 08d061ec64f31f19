"""Studies for scripts: the same search, the same whole, the same decisions as on the pages."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from dicom_node.serve.story import Step
from dicom_node.store import search
from dicom_node.store.search import Condition, Page, Wanted
from dicom_node.store.whole import Whole
from dicom_node.web.callers import Caller
from dicom_node.web.context import WebContext
from dicom_node.web.looking import tell_patients_shown
from dicom_node.web.requests import Context, Operator, Read, Viewer
from dicom_node.web.study import object_text, picture_png, routing_of, steps_of, study_of
from dicom_node.web.study_actions import decide

api = APIRouter(prefix="/api/v1", tags=["studies"])

HIDDEN: Final = ""
_MOST: Final = 500
_Id = Annotated[int, Path(ge=1, le=2**31 - 1)]
_Uid = Annotated[str, Path(max_length=64, pattern=r"^[0-9.]+$")]
_DATE: Final = r"^([0-9]{8})?$"


class Search(BaseModel):
    """What is looked for; every part that is given has to fit.

    `text` goes in the body, not in the address: it may be a patient's name.
    """

    model_config = ConfigDict(extra="forbid")

    text: str = Field("", max_length=200)
    sender: str = Field("", max_length=64)
    peer: str = Field("", max_length=64)
    condition: Condition | None = None
    since: str = Field("", pattern=_DATE)
    until: str = Field("", pattern=_DATE)
    before: int | None = Field(None, ge=0, le=2**31 - 1)
    limit: int = Field(search.PAGE, ge=1, le=_MOST)


class Action(StrEnum):
    """What may be decided about a study."""

    RERUN = "rerun"
    RESEND = "resend"
    ROUTE = "route"
    HOLD = "hold"
    RELEASE = "release"
    DISCARD = "discard"


class Order(BaseModel):
    """A decision: why, and of which pipeline (rerun) or peer (resend) alone."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=500)
    pipeline: str = Field("", max_length=64)
    peer: str = Field("", max_length=64)


class Done(BaseModel):
    """What was done, a line each."""

    done: list[str]


class Problem(BaseModel):
    """Why not: what, why, and what to do."""

    what: str
    why: str
    fix: str


ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    401: {"model": Problem, "description": "No token, or none that counts"},
    403: {"model": Problem, "description": "The role is not enough"},
    404: {"model": Problem, "description": "It is not there"},
    409: {"model": Problem, "description": "It cannot be done now"},
    422: {"model": Problem, "description": "The request is not as it should be"},
}


@api.get("/studies", responses=ERRORS)
def studies(
    context: Context,
    session: Read,
    caller: Viewer,
    sender: Annotated[str, Query(max_length=64)] = "",
    peer: Annotated[str, Query(max_length=64)] = "",
    condition: Condition | None = None,
    since: Annotated[str, Query(pattern=_DATE)] = "",
    until: Annotated[str, Query(pattern=_DATE)] = "",
    before: Annotated[int | None, Query(ge=0, le=2**31 - 1)] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST)] = search.PAGE,
) -> Page:
    """The studies, newest first; `next_before` of a page is `before` of the one after it."""
    wanted = Wanted(
        sender=sender, peer=peer, condition=condition, since=since, until=until, before=before
    )
    return _found(context, session, caller, wanted, limit)


@api.post("/studies/search", responses=ERRORS)
def search_studies(context: Context, session: Read, caller: Viewer, asked: Search) -> Page:
    """The same with words: name, patient id, accession number, or the beginning of a UID."""
    wanted = Wanted(
        text=asked.text,
        with_patients=caller.sees_patients,
        sender=asked.sender,
        peer=asked.peer,
        condition=asked.condition,
        since=asked.since,
        until=asked.until,
        before=asked.before,
    )
    return _found(context, session, caller, wanted, asked.limit)


@api.get("/studies/{study_uid}", responses=ERRORS)
def study(context: Context, session: Read, caller: Viewer, study_uid: _Uid) -> Whole:
    """One study: its series, jobs with findings, objects and deliveries."""
    found = study_of(session, study_uid)
    if not caller.sees_patients:
        return replace(found, patient_id=HIDDEN, patient_name=HIDDEN)
    tell_patients_shown(context, caller, [study_uid])
    return found


@api.get("/studies/{study_uid}/story", responses=ERRORS)
def study_story(session: Read, caller: Viewer, study_uid: _Uid) -> list[Step]:
    """What happened to it, oldest first, in plain words."""
    study_of(session, study_uid)
    return steps_of(session, study_uid)


@api.get("/studies/{study_uid}/routing", responses=ERRORS)
def study_routing(
    context: Context, session: Read, caller: Viewer, study_uid: _Uid
) -> dict[str, Any]:
    """How each route judges it, condition by condition, by node.yaml as it is now."""
    return routing_of(context, session, study_of(session, study_uid), caller)


@api.get(
    "/studies/{study_uid}/objects/{report_id}/text",
    responses=ERRORS,
    response_class=PlainTextResponse,
)
def report_text(
    context: Context, session: Read, caller: Viewer, study_uid: _Uid, report_id: _Id
) -> str:
    """A structured report as text."""
    return object_text(context, session, study_uid, report_id)


@api.get(
    "/studies/{study_uid}/objects/{report_id}/picture",
    responses={**ERRORS, 200: {"content": {"image/png": {}}}},
    response_class=Response,
)
def report_picture(
    context: Context,
    session: Read,
    caller: Viewer,
    study_uid: _Uid,
    report_id: _Id,
    frame: Annotated[int, Query(ge=0, le=10_000)] = 0,
) -> Response:
    """A picture as PNG; one that may name the patient only for who sees patients."""
    png = picture_png(context, session, caller, study_uid, report_id, frame)
    tell_patients_shown(context, caller, [study_uid])
    return Response(png, media_type="image/png")


@api.post("/studies/{study_uid}/{action}", responses=ERRORS)
def decide_study(
    context: Context,
    session: Read,
    caller: Operator,
    study_uid: _Uid,
    action: Action,
    order: Order,
) -> Done:
    """Run it again, send it again, route it again, hold, release or discard it."""
    study_of(session, study_uid)
    session.close()
    done = decide(
        context, study_uid, str(action), caller.name, order.reason, order.pipeline, order.peer
    )
    return Done(done=done)


def _found(
    context: WebContext, session: Session, caller: Caller, wanted: Wanted, limit: int
) -> Page:
    found = search.find(session, wanted, limit)
    if caller.sees_patients:
        tell_patients_shown(context, caller, [line.study_uid for line in found.lines])
        return found
    masked = tuple(replace(line, patient_id=HIDDEN, patient_name=HIDDEN) for line in found.lines)
    return replace(found, lines=masked)
