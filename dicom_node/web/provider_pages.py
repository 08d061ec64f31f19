"""The way to the identity provider and back."""

from __future__ import annotations

from typing import Final

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from dicom_node.errors import NodeError
from dicom_node.store import accounts, audit
from dicom_node.web.access import enter, local_path
from dicom_node.web.callers import address_of
from dicom_node.web.context import WebContext
from dicom_node.web.failures import NotThereError
from dicom_node.web.oidc import Provider
from dicom_node.web.requests import Context, page

router = APIRouter(include_in_schema=False)

_log = structlog.get_logger()

_BEGUN: Final = "dicom_node_provider"
_BACK: Final = "/login/callback"


@router.get("/login/provider")
def to_provider(request: Request, context: Context, next: str = "/") -> Response:
    """Send the browser to the provider; a cookie remembers what for."""
    provider = provider_of(request, context)
    try:
        address, begun = provider.begin(_back_to(request, context), local_path(next))
    except NodeError as error:
        return _told(request, context, error)
    response = RedirectResponse(address, 303)
    # Lax, for the provider leads back here from its own site
    response.set_cookie(
        _BEGUN,
        begun,
        max_age=600,
        path="/login",
        httponly=True,
        samesite="lax",
        secure=context.web.is_https,
    )
    return response


@router.get(_BACK)
def from_provider(request: Request, context: Context) -> Response:
    """Take the provider's answer and open a session."""
    provider = provider_of(request, context)
    try:
        vouched, path = provider.finish(
            _back_to(request, context),
            request.cookies.get(_BEGUN, ""),
            dict(request.query_params),
        )
        if vouched.role is None:
            raise NodeError(
                "the identity provider",
                "it gives you no role for this node",
                "ask for a group that `web.oidc.roles` names",
            )
        with context.database.write() as session:
            user = accounts.log_in_by_provider(
                session, vouched.subject, vouched.name, vouched.role, context.clock.now()
            )
    except NodeError as error:
        return _told(request, context, error)
    response = enter(request, context, user, path, "identity provider")
    # a redirect would still count as the provider's: browsers keep the Strict cookie back
    here = page(request, "entered.html", path=local_path(path))
    for value in response.headers.getlist("set-cookie"):
        here.headers.append("set-cookie", value)
    here.delete_cookie(_BEGUN, path="/login")
    return here


def provider_of(request: Request, context: WebContext) -> Provider:
    """Return the process's provider.

    Raises:
        NotThereError: node.yaml names none.
    """
    section = context.web.oidc
    if section is None:
        raise NotThereError("this log-in", "node.yaml has no `web.oidc`", "log in by password")
    state = request.app.state
    if getattr(state, "oidc_section", None) != section:
        state.oidc_section, state.oidc = section, Provider(section, context.clock)
    provider: Provider = state.oidc
    return provider


def _back_to(request: Request, context: WebContext) -> str:
    scheme = "https" if context.web.is_https else "http"
    return f"{scheme}://{request.headers['host']}{_BACK}"


def _told(request: Request, context: WebContext, error: NodeError) -> Response:
    _log.warning("provider_login_failed", what=error.what, why=error.why, fix=error.fix)
    with context.database.write() as session:
        audit.record(
            session,
            context.clock.now(),
            "login_failed",
            user=None,
            address=address_of(request),
            way="identity provider",
            why=error.why,
        )
    return page(
        request,
        "login.html",
        status=401,
        next="/",
        error=f"{error.what}: {error.why}. {error.fix}.".capitalize(),
        by_provider=True,
    )
