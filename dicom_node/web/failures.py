"""Errors as a browser or a script sees them: what, why and what to do; never a detail of ours."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from dicom_node.errors import ConfigError, NodeError
from dicom_node.logs import error_facts
from dicom_node.web.callers import NotAllowedError, NotLoggedInError
from dicom_node.web.requests import page

_log = structlog.get_logger()

GONE: Final = "event: gone\ndata: {}\n\n"
"""Tells a page that looks on by server-sent events that nobody is logged in any more."""


class NotThereError(NodeError):
    """What was asked for is not there: 404."""


def add_handlers(app: FastAPI) -> None:
    """Let the application answer every error in these words."""
    app.add_exception_handler(NotLoggedInError, _log_in_first)
    app.add_exception_handler(NotAllowedError, _not_allowed)
    app.add_exception_handler(NodeError, _node_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(SQLAlchemyError, own_failure)


def _is_api(request: Request) -> bool:
    return request.url.path.startswith("/api/")


def _log_in_first(request: Request, _: Exception) -> Response:
    if _is_api(request):
        response = _told(request, 401, "nobody is logged in", "give a token", "")
        response.headers["WWW-Authenticate"] = "Bearer"
        return response
    if request.method != "GET":
        return RedirectResponse("/login", 303)
    if "text/event-stream" in request.headers.get("accept", ""):
        # redirected to a page, a browser's EventSource fails for good and nobody learns why
        return Response(GONE, media_type="text/event-stream")
    there = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/login?next={quote(there, safe='')}", 303)


def _not_allowed(request: Request, error: Exception) -> Response:
    assert isinstance(error, NotAllowedError)
    return _told(request, 403, "this is not allowed", error.why, "ask an admin of this node")


def _node_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, NodeError)
    status = 404 if isinstance(error, NotThereError) else 409
    if isinstance(error, ConfigError):
        status = 422
    return _told(request, status, error.what, error.why, error.fix)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # of what was given only the place: the value may be a patient's
    places = {".".join(str(part) for part in item["loc"]): item["type"] for item in error.errors()}
    why = "; ".join(f"{place}: {kind}" for place, kind in places.items())
    return _told(request, 422, "the request", why, "see /api/v1/openapi.json")


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase.lower()
    fix = "go to the first page" if error.status_code == 404 else ""
    response = _told(request, error.status_code, "this address", phrase, fix)
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


def own_failure(request: Request, error: Exception) -> Response:
    """Answer what is our own mistake: the log gets its type and place, the caller neither."""
    route = request.scope.get("route")
    _log.error("page_failed", page=str(getattr(route, "path", "")), **error_facts(error))
    return _told(
        request, 500, "the node", "it could not answer this", "its log says more (page_failed)"
    )


def _told(request: Request, status: int, what: str, why: str, fix: str) -> Response:
    if _is_api(request):
        return JSONResponse({"what": what, "why": why, "fix": fix}, status)
    return page(request, "error.html", status=status, code=status, what=what, why=why, fix=fix)
