"""The API of routes and configuration: what the pages do, for scripts."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Query, UploadFile
from pydantic import BaseModel, Field

from dicom_node.errors import ConfigError
from dicom_node.model.routes import Route
from dicom_node.serve.configuring import DryRun, Proposal
from dicom_node.serve.reloading import notices
from dicom_node.serve.trying import Tried
from dicom_node.store import configurations
from dicom_node.store.configurations import digest_of
from dicom_node.web.callers import Caller
from dicom_node.web.context import WebContext
from dicom_node.web.failures import NotThereError
from dicom_node.web.requests import Admin, Context, Operator, Read, Viewer
from dicom_node.web.routes_page import (
    LAST,
    Number,
    configuring_of,
    explained,
    outcome,
    reload_node,
    take_now,
    try_given,
)

api = APIRouter(prefix="/api/v1", tags=["configuration"])


class TextIn(BaseModel):
    """A text that is to become `node.yaml`."""

    text: str = Field(max_length=1_000_000)


class ProblemOut(BaseModel):
    line: int
    key: str
    why: str
    fix: str


class ChangedOut(BaseModel):
    study_uid: str
    now: list[str]
    then: list[str]


class ProposalOut(BaseModel):
    """What a text would change; `base` is to be given back to apply it."""

    base: str
    diff: str
    problems: list[ProblemOut]
    needs_restart: list[str]
    studies: int
    changed: list[ChangedOut]


class ApplyIn(TextIn):
    """`base` is the SHA-256 of the text that the change was made from."""

    base: str = Field(pattern="^[0-9a-f]{64}$")
    why: str = Field(min_length=1, max_length=500)


class RollBackIn(BaseModel):
    base: str = Field(pattern="^[0-9a-f]{64}$")
    why: str = Field(min_length=1, max_length=500)


class CurrentOut(BaseModel):
    text: str
    base: str
    notices: list[str]


class AppliedOut(BaseModel):
    number: int
    digest: str
    told: str
    is_error: bool


class ToldOut(BaseModel):
    told: str
    is_error: bool


class HistoryOut(BaseModel):
    id: int
    at: str
    by: str
    why: str
    digest: str


class TriedOut(BaseModel):
    """What the routes would do with a study; `routes` and `jobs` as `route --explain --json`."""

    study_uid: str
    images: int
    routes: list[dict[str, Any]]
    jobs: list[dict[str, Any]]
    unrouted_reason: str | None


class TriedAllOut(BaseModel):
    studies: list[TriedOut]
    unread: int


@api.get("/configuration")
def read_configuration(context: Context, session: Read, caller: Admin) -> CurrentOut:
    """Return the text of `node.yaml`."""
    text, base = configuring_of(context).current()
    return CurrentOut(
        text=text, base=base, notices=notices(context.config_file, context.config, session)
    )


@api.post("/configuration/propose")
def propose(
    context: Context,
    caller: Admin,
    given: TextIn,
    last: Annotated[int, Query(ge=0, le=5000)] = LAST,
) -> ProposalOut:
    """Check a text, compare it with the file, and try its routes on the last studies."""
    configuring = configuring_of(context)
    proposal = configuring.propose(given.text)
    tried = DryRun(0, []) if proposal.problems else configuring.dry_run(given.text, last)
    return _proposal_out(proposal, tried)


def _proposal_out(proposal: Proposal, tried: DryRun) -> ProposalOut:
    return ProposalOut(
        base=proposal.base,
        diff=proposal.diff,
        problems=[
            ProblemOut(line=item.line, key=item.key, why=item.why, fix=item.fix)
            for item in proposal.problems
        ],
        needs_restart=list(proposal.needs_restart),
        studies=tried.studies,
        changed=[
            ChangedOut(study_uid=item.study_uid, now=list(item.now), then=list(item.then))
            for item in tried.changed
        ],
    )


@api.post("/configuration/apply")
def apply(context: Context, caller: Admin, given: ApplyIn) -> AppliedOut:
    """Write a text into `node.yaml` and let the node take it."""
    done = configuring_of(context).apply(given.text, base=given.base, by=caller.name, why=given.why)
    take_now(context, given.text)
    told, is_error = outcome(done)
    return AppliedOut(number=done.number, digest=done.digest, told=told, is_error=is_error)


@api.get("/configuration/history")
def read_history(session: Read, caller: Admin) -> list[HistoryOut]:
    """Return what `node.yaml` has held, newest first."""
    return [
        HistoryOut(id=item.id, at=item.at.isoformat(), by=item.by, why=item.why, digest=item.digest)
        for item in configurations.history(session, 200)
    ]


@api.get("/configuration/history/{number}")
def read_earlier(context: Context, caller: Admin, number: Number) -> CurrentOut:
    """Return an earlier text."""
    text = _earlier(context, number)
    return CurrentOut(text=text, base=digest_of(text), notices=[])


@api.post("/configuration/history/{number}/rollback")
def roll_back(context: Context, caller: Admin, number: Number, given: RollBackIn) -> AppliedOut:
    """Write an earlier text into `node.yaml` again."""
    text = _earlier(context, number)
    done = configuring_of(context).apply(text, base=given.base, by=caller.name, why=given.why)
    take_now(context, text)
    told, is_error = outcome(done)
    return AppliedOut(number=done.number, digest=done.digest, told=told, is_error=is_error)


@api.post("/reload")
def reload(context: Context, caller: Admin) -> ToldOut:
    """Let the node take `node.yaml` as it is now."""
    told, is_error = reload_node(context)
    return ToldOut(told=told, is_error=is_error)


@api.get("/routes")
def read_routes(context: Context, caller: Viewer) -> list[Route]:
    """Return the routes that the node runs with."""
    return list(context.config.routes)


@api.get("/routes/try/{study_uid}")
def try_named(context: Context, caller: Operator, study_uid: str) -> TriedAllOut:
    """Return what the routes would do with a study that was received."""
    tried, unread = try_given(context, caller, study_uid, "", [])
    return _tried_out(tried, unread, caller)


@api.post("/routes/try")
def try_dropped(
    context: Context,
    caller: Operator,
    files: Annotated[list[UploadFile], File()],
    sender: Annotated[str, Form(max_length=16)] = "",
) -> TriedAllOut:
    """Return what the routes would do with DICOM files; they are not kept."""
    tried, unread = try_given(context, caller, "", sender.strip(), files)
    return _tried_out(tried, unread, caller)


def _tried_out(tried: list[Tried], unread: int, caller: Caller) -> TriedAllOut:
    return TriedAllOut(
        studies=[
            TriedOut(study_uid=item.study_uid, images=item.images, **explained(item, caller))
            for item in tried
        ],
        unread=unread,
    )


def _earlier(context: WebContext, number: Number) -> str:
    try:
        return configuring_of(context).earlier(number)
    except ConfigError as error:
        raise NotThereError(error.what, error.why, error.fix) from None
