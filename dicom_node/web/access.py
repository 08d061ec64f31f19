"""Log-in, log-out, and the first admin."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from dicom_node.errors import NodeError
from dicom_node.model.access import User
from dicom_node.store import accounts, audit, sessions
from dicom_node.store.access_tables import UserRow
from dicom_node.store.sessions import Lockout
from dicom_node.web.callers import address_of, cookie_name
from dicom_node.web.context import WebContext
from dicom_node.web.requests import Context, Viewer, go, page

router = APIRouter(include_in_schema=False)

_LOCKOUT: Final = Lockout()
_WRONG: Final = "This name and password do not fit."
_TOO_MANY: Final = "Too many log-ins have failed. Wait a quarter of an hour, then try again."


@router.get("/login")
def log_in_page(request: Request, context: Context, next: str = "/") -> Response:
    """The form."""
    return _form(request, context, next, "")


@router.post("/login")
def log_in(
    request: Request,
    context: Context,
    name: Annotated[str, Form(max_length=256)] = "",
    password: Annotated[str, Form(max_length=2048)] = "",
    next: Annotated[str, Form(max_length=2048)] = "/",
) -> Response:
    """Check name and password; what fails is counted by name and address."""
    now, address = context.clock.now(), address_of(request)
    with context.database.write() as session:
        may = sessions.begin_attempt(session, name, address, now, _LOCKOUT)
        row = session.query(UserRow).filter_by(name=name).one_or_none()
        known = row.name if row else None
        kept = row.password_hash if row else None
        if not may:
            audit.record(session, now, "login_refused", user=known, address=address)
    if not may:
        return _form(request, context, next, _TOO_MANY, 429)
    # always verified: the time that it takes must not tell who is known
    is_right = accounts.is_password(password, kept)
    if row is None or not is_right:
        with context.database.write() as session:
            # a name that is not known may be a password typed in the wrong place
            audit.record(session, now, "login_failed", user=known, address=address)
        return _form(request, context, next, _WRONG, 401)
    with context.database.write() as session:
        sessions.end_attempt(session, name, address)
    return enter(request, context, accounts.user_of(row), local_path(next), "password")


@router.post("/logout")
def log_out(context: Context, caller: Viewer) -> Response:
    """End the session, here and in the database."""
    with context.database.write() as session:
        sessions.close_session(session, caller.session_token)
        audit.record(
            session, context.clock.now(), "logout", user=caller.name, address=caller.address
        )
    response = go("/login")
    response.delete_cookie(cookie_name(context))
    return response


@router.get("/setup")
def setup_page(request: Request, context: Context, token: str = "") -> Response:
    """The form for the first admin, for who has the token from the log."""
    with context.database.read() as session:
        is_valid = accounts.is_setup_token(session, token, context.clock.now())
    return page(
        request,
        "setup.html",
        status=200 if is_valid else 403,
        token=token,
        is_valid=is_valid,
        error="",
        shortest=accounts.SHORTEST_PASSWORD,
        name="",
    )


@router.post("/setup")
def set_up(
    request: Request,
    context: Context,
    token: Annotated[str, Form(max_length=256)],
    name: Annotated[str, Form(max_length=256)],
    password: Annotated[str, Form(max_length=2048)],
    again: Annotated[str, Form(max_length=2048)],
) -> Response:
    """Make the first admin and use the token up."""
    now = context.clock.now()
    with context.database.read() as session:
        is_valid = accounts.is_setup_token(session, token, now)
    try:
        if password != again:
            raise NodeError("password", "the two are not the same", "type it again")
        if not is_valid:
            raise NodeError("setup", "this token is not one, or is used up", "see the log")
        password_hash = accounts.hash_password(password)
        with context.database.write() as session:
            user = accounts.use_setup_token(session, token, name, password_hash, now)
    except NodeError as error:
        return page(
            request,
            "setup.html",
            status=422,
            token=token,
            is_valid=is_valid,
            name=name,
            error=f"{error.what}: {error.why}. {error.fix}.",
            shortest=accounts.SHORTEST_PASSWORD,
        )
    return enter(request, context, user, "/", "setup token")


def enter(request: Request, context: WebContext, user: User, path: str, by: str) -> Response:
    """Open a session for somebody who has proved who they are.

    Args:
        by: How.
    """
    now, address = context.clock.now(), address_of(request)
    idle = timedelta(minutes=context.web.session_minutes)
    with context.database.write() as session:
        sessions.forget_sessions(session, now - idle)
        token = sessions.open_session(session, user.id, address, now)
        audit.record(
            session, now, "login", user=user.name, role=str(user.role), address=address, way=by
        )
    response = go(path)
    response.set_cookie(
        cookie_name(context),
        token,
        httponly=True,
        samesite="strict",
        path="/",
        secure=context.web.is_https,
    )
    return response


def local_path(path: str) -> str:
    """Return a path of ours; anything that could lead elsewhere becomes the first page."""
    is_ours = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_ours and "\\" not in path else "/"


def _form(
    request: Request, context: WebContext, next_path: str, error: str, status: int = 200
) -> Response:
    return page(
        request,
        "login.html",
        status=status,
        next=local_path(next_path),
        error=error,
        by_provider=context.web.oidc is not None,
    )
