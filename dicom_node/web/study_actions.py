"""The buttons of a study's page: each with a reason, which the audit trail keeps."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Form
from fastapi.responses import Response

from dicom_node.errors import NodeError
from dicom_node.serve import lifecycle
from dicom_node.web.context import WebContext
from dicom_node.web.failures import NotThereError
from dicom_node.web.requests import Context, Operator, Read, go
from dicom_node.web.study import study_of

router = APIRouter(include_in_schema=False)

ACTIONS: Final = ("rerun", "resend", "route", "hold", "release", "discard")


@router.post("/studies/{study_uid}/{action}")
def act(
    context: Context,
    session: Read,
    caller: Operator,
    study_uid: str,
    action: str,
    reason: Annotated[str, Form(max_length=500)] = "",
    pipeline: Annotated[str, Form(max_length=64)] = "",
    peer: Annotated[str, Form(max_length=64)] = "",
) -> Response:
    """Do what a button says; what cannot be done is told on the study's page."""
    study_of(session, study_uid)
    session.close()
    try:
        told = decide(context, study_uid, action, caller.name, reason, pipeline, peer)
    except NotThereError:
        raise
    except NodeError as error:
        return go(f"/studies/{study_uid}", f"Not done: {error.why}. {error.fix}.", is_error=True)
    return go(f"/studies/{study_uid}", ". ".join(told))


def decide(
    context: WebContext,
    study_uid: str,
    action: str,
    by: str,
    reason: str,
    pipeline: str = "",
    peer: str = "",
) -> list[str]:
    """Let a person's decision about a study take place; returns what was done.

    Raises:
        NotThereError: There is no such action.
        NodeError: There is no reason, or it cannot be done now.
    """
    if action not in ACTIONS:
        raise NotThereError(f"the action {action[:20]!r}", "there is none", ", ".join(ACTIONS))
    why = " ".join(reason.split())
    if not why:
        raise NodeError("the reason", "it is missing", "say why, for the audit trail")
    at = context.clock.now()
    with context.database.write() as session:
        match action:
            case "rerun":
                return lifecycle.rerun(session, study_uid, at, by, why, pipeline or None)
            case "resend":
                return lifecycle.resend(session, study_uid, at, by, why, peer or None)
            case "route":
                told = lifecycle.route_again(session, study_uid, at, by, why)
                return [f"queued again: {told}"]
            case "hold":
                return [lifecycle.hold(session, study_uid, at, by, why)]
            case "release":
                return lifecycle.release(session, study_uid, at, by, why)
            case _:
                return [lifecycle.discard(session, study_uid, at, by, why)]
