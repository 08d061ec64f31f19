"""Routes: the rules as a table; trying a study; changing node.yaml with its history."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, File, Form, Path, Query, Request, UploadFile
from fastapi.responses import Response

from dicom_node.errors import ConfigError, NodeError
from dicom_node.model.conditions import Conditions
from dicom_node.model.identifiers import is_valid_uid
from dicom_node.model.routes import Route
from dicom_node.model.wording import in_words as conditions_in_words
from dicom_node.routing.explain import as_json
from dicom_node.serve.configuring import Applied, Configuring
from dicom_node.serve.live import load_beside
from dicom_node.serve.reloading import Reloaded, ask_for_reload, notices
from dicom_node.serve.trying import Tried, read_facts, try_facts, try_study
from dicom_node.store import audit, configurations
from dicom_node.web.callers import Caller
from dicom_node.web.context import WebContext
from dicom_node.web.failures import NotThereError
from dicom_node.web.requests import Admin, Context, Operator, Read, Viewer, go, page

router = APIRouter(include_in_schema=False)

_MOST_FILES: Final = 500
_SHOWN: Final = 50
LAST: Final = 500

Text = Annotated[str, Form(max_length=1_000_000)]
Sha = Annotated[str, Form(min_length=64, max_length=64, pattern="^[0-9a-f]+$")]
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
Reason = Annotated[str, Form(max_length=500)]


def configuring_of(context: WebContext) -> Configuring:
    """Return what changes this node's `node.yaml`."""
    return Configuring(context.config_file, context.config, context.database, context.clock)


@router.get("/routes")
def routes_page(request: Request, context: Context, session: Read, caller: Viewer) -> Response:
    return page(
        request,
        "routes.html",
        routes=[_row(route) for route in context.config.routes],
        notices=notices(context.config_file, context.config, session),
        history=configurations.history(session, 5),
    )


@router.post("/routes/try")
def try_page(
    request: Request,
    context: Context,
    caller: Operator,
    study: Annotated[str, Form(max_length=64)] = "",
    sender: Annotated[str, Form(max_length=16)] = "",
    files: Annotated[list[UploadFile] | None, File()] = None,
) -> Response:
    tried, unread = try_given(context, caller, study.strip(), sender.strip(), files or [])
    shown = [
        {"uid": item.study_uid, "images": item.images, **explained(item, caller)} for item in tried
    ]
    return page(request, "routes_try.html", tried=shown, unread=unread)


@router.get("/routes/edit")
def edit_page(
    request: Request,
    context: Context,
    caller: Admin,
    number: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> Response:
    configuring = configuring_of(context)
    text, base = configuring.current()
    if number is not None:
        text = configuring.earlier(number)
    return page(request, "routes_edit.html", text=text, base=base, number=number, why="")


@router.post("/routes/propose")
def propose_page(
    request: Request,
    context: Context,
    caller: Admin,
    text: Text,
    base: Sha,
    why: Reason = "",
    last: Annotated[int, Form(ge=0, le=5000)] = LAST,
) -> Response:
    """Show a change before it is made: mistakes, or the difference and what it would do."""
    text = _lines(text)
    return proposal_page(request, context, text, base, why, last)


def proposal_page(
    request: Request, context: WebContext, text: str, base: str, why: str, last: int = LAST
) -> Response:
    """Answer with a proposal for a person to look at."""
    configuring = configuring_of(context)
    proposal = configuring.propose(text)
    tried = None if proposal.problems else configuring.dry_run(text, last)
    if proposal.problems:
        return page(
            request,
            "routes_edit.html",
            status=422,
            text=text,
            base=base,
            number=None,
            why=why,
            problems=proposal.problems,
        )
    return page(
        request,
        "routes_proposal.html",
        proposal=proposal,
        lines=diff_lines(proposal.diff),
        base=base,
        why=why,
        tried=tried,
        shown=tried.changed[:_SHOWN] if tried else [],
    )


@router.post("/routes/apply")
def apply_page(
    request: Request, context: Context, caller: Admin, text: Text, base: Sha, why: Reason = ""
) -> Response:
    text = _lines(text)
    try:
        done = configuring_of(context).apply(text, base=base, by=caller.name, why=why)
    except ConfigError as error:
        # the text is not lost: it goes back into the editor, with the file as it is now
        _, now = configuring_of(context).current()
        return page(
            request,
            "routes_edit.html",
            status=409,
            text=text,
            base=now,
            number=None,
            why=why,
            trouble=error,
        )
    take_now(context, text)
    told, is_error = outcome(done)
    return go("/routes", told, is_error=is_error)


@router.post("/routes/reload")
def reload_page(context: Context, caller: Admin) -> Response:
    told, is_error = reload_node(context)
    return go("/routes", told, is_error=is_error)


@router.get("/routes/history")
def history_page(request: Request, session: Read, caller: Admin) -> Response:
    return page(request, "routes_history.html", history=configurations.history(session, 200))


@router.get("/routes/history/{number}")
def earlier_page(request: Request, context: Context, caller: Admin, number: Number) -> Response:
    """An earlier text, and what going back to it would change."""
    configuring = configuring_of(context)
    text = configuring.earlier(number)
    proposal = configuring.propose(text)
    with context.database.read() as session:
        entry = configurations.entry(session, number)
    return page(
        request,
        "routes_earlier.html",
        number=number,
        entry=entry,
        text=text,
        base=proposal.base,
        lines=diff_lines(proposal.diff),
        problems=proposal.problems,
    )


def outcome(done: Applied) -> tuple[str, bool]:
    """Return what became of a change, and whether that is bad news."""
    line = done.reloaded.line
    first = f"Configuration {done.number} is written."
    if not done.reloaded.running:
        return f"{first} Nothing runs here: it is taken at the next start.", False
    if line is None:
        return f"{first} The node has not said yet whether it takes it.", True
    if not line.taken:
        return f"{first} The node did not take it: {'; '.join(line.problems[:1])}", True
    if done.reloaded.late:
        return f"{first} {_late(done.reloaded)}", True
    if line.needs_restart:
        keys = ", ".join(line.needs_restart)
        return f"{first} The node runs with it; restart it to take {keys}.", False
    return f"{first} The node runs with it.", False


def take_now(context: WebContext, text: str) -> None:
    """Let the pages show what was just applied, before the reload reaches this process."""
    loaded = load_beside(context.config, text, context.config_file)
    context.config, context.bundles = loaded.config, loaded.bundles


def diff_lines(diff: str) -> list[tuple[str, str]]:
    """Return each line of a unified diff with what it is: added, removed, place or same."""
    kinds = {"+": "added", "-": "removed", "@": "place"}
    return [(kinds.get(line[:1], "same"), line) for line in diff.splitlines()[2:]]


def reload_node(context: WebContext) -> tuple[str, bool]:
    reloaded = ask_for_reload(context.config, context.database)
    if not reloaded.running:
        return "Nothing runs here: the file is taken at the next start.", True
    if reloaded.line is None:
        return "The node has not answered in time: see its log.", True
    if not reloaded.line.taken:
        return f"Not taken: {'; '.join(reloaded.line.problems[:3])}", True
    if reloaded.late:
        return _late(reloaded), True
    waiting = reloaded.line.needs_restart
    return (
        f"Taken. Restart the node to take {', '.join(waiting)}." if waiting else "Taken."
    ), False


def _late(reloaded: Reloaded) -> str:
    names = ", ".join(reloaded.late)
    return f"The node has taken it; not yet by it: {names}. See its log."


def _lines(text: str) -> str:
    """A form sends every line end as CR LF."""
    return text.replace("\r\n", "\n")


def _row(route: Route) -> dict[str, Any]:
    return {
        "name": route.name,
        "when": conditions_in_words(route.when) or "every image",
        "run": route.run,
        "send_to": route.send_to,
        "stop": route.stop,
    }


def try_given(
    context: WebContext, caller: Caller, study: str, sender: str, files: list[UploadFile]
) -> tuple[list[Tried], int]:
    files = [item for item in files if item.filename or item.size]
    if study:
        if not is_valid_uid(study):
            raise ConfigError("the study", "that is no Study Instance UID", "copy it from its page")
        try:
            tried = [try_study(context.config, context.bundles, context.database, study)]
        except NodeError as error:
            raise NotThereError(error.what, error.why, error.fix) from None
        unread = 0
    elif files:
        if len(files) > _MOST_FILES:
            raise ConfigError(
                "the files", f"they are more than {_MOST_FILES}", "drop a part of the study"
            )
        read = [read_facts(item.file, sender) for item in files]
        unread = sum(item is None for item in read)
        tried = try_facts(
            context.config, context.bundles, [item for item in read if item is not None]
        )
        if not tried:
            raise ConfigError(
                "the files", "none has a DICOM header that can be read", "drop DICOM files"
            )
    else:
        raise ConfigError("the study", "none is named and no file dropped", "do either")
    with context.database.write() as session:
        audit.record(
            session,
            context.clock.now(),
            "study_tried",
            study_uid=study or None,
            by=caller.name,
            files=len(files),
        )
    return tried, unread


def explained(item: Tried, caller: Caller) -> dict[str, Any]:
    decision = as_json(item.decision)
    if not caller.sees_patients:
        # a route may look at any attribute: only the known ones say nothing of who it is
        parts = [*decision["routes"], *decision["jobs"]]
        for part in parts:
            for group in part.get("groups", part.get("selection", [])):
                for verdict in group["conditions"]:
                    if verdict["condition"] not in Conditions.model_fields:
                        verdict["seen"] = "(hidden)"
    return {
        "routes": decision["routes"],
        "jobs": decision["jobs"],
        "unrouted_reason": decision["unrouted_reason"],
    }
