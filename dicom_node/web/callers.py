"""Who calls: by the cookie of a session or by a script's token; and whether it is really them."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from dicom_node.model.access import Role, User
from dicom_node.store import audit, sessions
from dicom_node.web.context import WebContext

COOKIE: Final = "dicom_node_session"
SECURE_COOKIE: Final = "__Host-dicom_node_session"
CSRF_FIELD: Final = "csrf_token"
CSRF_HEADER: Final = "x-csrf-token"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_USED_EVERY: Final = timedelta(minutes=1)


class NotLoggedInError(Exception):
    """Nobody, or nobody any more: a page leads to the log-in, the API answers 401."""


class NotAllowedError(Exception):
    """Somebody whose role is not enough, or a form that is not ours: 403.

    Args:
        why: For the reader.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who is known.

    Attributes:
        csrf: What forms of this session must carry; "" of a script.
        session_token: "" of a script.
        sees_patients: Names and ids of patients may be shown.
    """

    user: User
    address: str
    csrf: str
    session_token: str
    sees_patients: bool

    @property
    def name(self) -> str:
        return self.user.name

    def may(self, role: Role | str) -> bool:
        """Tell whether the role is enough."""
        return self.user.role.covers(Role(role))


def address_of(request: Request) -> str:
    """Return the address that the request comes from."""
    return request.client.host[:64] if request.client else ""


def cookie_name(context: WebContext) -> str:
    """Return the session cookie's name: with HTTPS one that no other host can set."""
    return SECURE_COOKIE if context.web.is_https else COOKIE


def caller_of(request: Request) -> Caller | None:
    """Look up who calls; scripts' tokens count for the API only."""
    context: WebContext = request.app.state.context
    authorization = request.headers.get("authorization", "")
    if authorization:
        return _by_token(request, context, authorization)
    token = request.cookies.get(cookie_name(context), "")
    return _by_session(request, context, token) if token else None


def needs(role: Role) -> Callable[[Request], Awaitable[Caller]]:
    """Return a dependency: the caller, who has at least this role and sent our own form.

    Raises (when called):
        NotLoggedInError: Nobody calls.
        NotAllowedError: The role is not enough, or the form has not this session's token.
    """

    async def caller(request: Request) -> Caller:
        found = await run_in_threadpool(caller_of, request)
        if found is None:
            raise NotLoggedInError
        request.state.caller = found
        if not found.may(role):
            await run_in_threadpool(_tell_denied, request, found, role)
            raise NotAllowedError(
                f"this needs the role {role}, and {found.name} is {found.user.role}"
            )
        if request.method not in _SAFE and found.csrf:
            await _check_form(request, found.csrf)
        return found

    return caller


def csrf_of(session_token: str) -> str:
    """Return the token that a session's forms carry; it cannot be made without the cookie."""
    return hmac.new(session_token.encode(), b"form", hashlib.sha256).hexdigest()


async def _check_form(request: Request, wanted: str) -> None:
    given = request.headers.get(CSRF_HEADER)
    if given is None:
        field = (await request.form()).get(CSRF_FIELD)
        given = field if isinstance(field, str) else ""
    if not hmac.compare_digest(given.encode(), wanted.encode()):
        raise NotAllowedError("the form is not of this session: load the page again")


def _by_session(request: Request, context: WebContext, token: str) -> Caller | None:
    now = context.clock.now()
    idle = timedelta(minutes=context.web.session_minutes)
    with context.database.read() as session:
        found = sessions.user_of_session(session, token, now, idle)
    if found is None:
        return None
    user, is_due = found
    # a page that is left open and refreshes itself is nobody's use of the session
    if is_due and not request.url.path.startswith("/live"):
        with context.database.write() as session:
            sessions.use_session(session, token, now)
    return _caller(request, context, user, csrf=csrf_of(token), session_token=token)


def _by_token(request: Request, context: WebContext, authorization: str) -> Caller | None:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not request.url.path.startswith("/api/"):
        return None
    with context.database.read() as session:
        found = sessions.user_of_token(session, token.strip())
    if found is None:
        return None
    user, used_at = found
    now = context.clock.now()
    if used_at is None or now - used_at > _USED_EVERY:
        with context.database.write() as session:
            sessions.use_token(session, token.strip(), now)
    return _caller(request, context, user, csrf="", session_token="")


def _caller(
    request: Request, context: WebContext, user: User, *, csrf: str, session_token: str
) -> Caller:
    return Caller(
        user=user,
        address=address_of(request),
        csrf=csrf,
        session_token=session_token,
        sees_patients=user.role.covers(context.web.patients_for),
    )


def _tell_denied(request: Request, caller: Caller, role: Role) -> None:
    context: WebContext = request.app.state.context
    route = request.scope.get("route")
    with context.database.write() as session:
        audit.record(
            session,
            context.clock.now(),
            "access_denied",
            by=caller.name,
            address=caller.address,
            # the route as written, not the address: that may hold anything
            page=f"{request.method} {getattr(route, 'path', '')}",
            needs=str(role),
        )
