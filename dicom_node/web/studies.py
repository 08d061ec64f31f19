"""The page *Studies*: search, and the list by fifty, newest first."""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response

from dicom_node.store import search
from dicom_node.store.search import Condition, Wanted
from dicom_node.web.looking import tell_patients_shown
from dicom_node.web.requests import Context, Read, Viewer, go, page
from dicom_node.web.sealed import seal, unseal

router = APIRouter(include_in_schema=False)

_LONGEST: Final = 200
TONES: Final = {
    Condition.HELD: "bad",
    Condition.FAILED: "bad",
    Condition.UNDELIVERED: "bad",
    Condition.RECEIVING: "busy",
    Condition.WAITING: "busy",
    Condition.NOT_ROUTED: "warn",
    Condition.NOT_EVALUATED: "warn",
    Condition.DONE: "good",
}
_Text = Annotated[str, Query(max_length=_LONGEST)]


@router.get("/studies")
def studies_page(
    request: Request,
    context: Context,
    session: Read,
    caller: Viewer,
    find: Annotated[str, Query(max_length=2048)] = "",
    state: _Text = "",
    sender: _Text = "",
    to: _Text = "",
    since: _Text = "",
    until: _Text = "",
    before: Annotated[int | None, Query(ge=0, le=2**31 - 1)] = None,
) -> Response:
    """The list; `find` is sealed, for it may hold a patient's name."""
    text = unseal(caller.session_token, find)
    wanted = Wanted(
        text=text,
        with_patients=caller.sees_patients,
        sender=sender,
        peer=to,
        condition=_condition(state),
        since=_digits(since),
        until=_digits(until),
        before=before,
    )
    found = search.find(session, wanted)
    tell_patients_shown(context, caller, [line.study_uid for line in found.lines])
    kept = {"find": find, "state": state, "sender": sender, "to": to, "since": since}
    kept = {key: value for key, value in {**kept, "until": until}.items() if value}
    older = {**kept, "before": found.next_before} if found.next_before is not None else None
    return page(
        request,
        "studies.html",
        found=found,
        tones=TONES,
        asked={
            "text": text,
            "state": state,
            "sender": sender,
            "to": to,
            "since": since,
            "until": until,
        },
        is_asked=bool(kept),
        is_first=before is None,
        newest_link=f"/studies?{urlencode(kept)}",
        older_link=f"/studies?{urlencode(older)}" if older else "",
        conditions=list(Condition),
        senders=search.senders(session),
        peers=sorted(context.config.peers),
    )


@router.post("/studies")
def look_for(
    caller: Viewer,
    text: Annotated[str, Form(max_length=_LONGEST)] = "",
    state: Annotated[str, Form(max_length=_LONGEST)] = "",
    sender: Annotated[str, Form(max_length=_LONGEST)] = "",
    to: Annotated[str, Form(max_length=_LONGEST)] = "",
    since: Annotated[str, Form(max_length=_LONGEST)] = "",
    until: Annotated[str, Form(max_length=_LONGEST)] = "",
) -> Response:
    """Take the form and go to the list; a whole UID leads to its study."""
    text = text.strip()
    asked: dict[str, Any] = {
        "find": seal(caller.session_token, text),
        "state": state,
        "sender": sender,
        "to": to,
        "since": since,
        "until": until,
    }
    return go(f"/studies?{urlencode({key: value for key, value in asked.items() if value})}")


def _condition(text: str) -> Condition | None:
    return Condition(text) if text in set(Condition) else None


def _digits(date: str) -> str:
    """Return a date of a form, 2026-01-31, as DICOM writes it; "" for anything else."""
    digits = date.replace("-", "")
    return digits if len(digits) == len("20260131") and digits.isdigit() else ""
