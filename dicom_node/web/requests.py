"""What every page imports: who calls, what there is to work with, and how to answer."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Annotated, Any, Final

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from dicom_node.model.access import Role
from dicom_node.web.callers import Caller, needs
from dicom_node.web.context import WebContext
from dicom_node.web.templates import render

_FLASH: Final = "dicom_node_flash"


def _context(request: Request) -> WebContext:
    context: WebContext = request.app.state.context
    return context


def _read(request: Request) -> Iterator[Session]:
    with _context(request).database.read() as session:
        yield session


Context = Annotated[WebContext, Depends(_context)]
Read = Annotated[Session, Depends(_read)]
"""A reading transaction. To write: `with context.database.write() as session:`."""
Viewer = Annotated[Caller, Depends(needs(Role.VIEWER))]
Operator = Annotated[Caller, Depends(needs(Role.OPERATOR))]
Admin = Annotated[Caller, Depends(needs(Role.ADMIN))]


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Answer with a page: `values` beside what every template knows (see templates.py)."""
    flash = _flash_of(request)
    text = render(request, template, flash=flash, **values)
    response = HTMLResponse(text, status)
    if flash:
        response.delete_cookie(_FLASH)
    return response


def go(path: str, told: str = "", *, is_error: bool = False) -> RedirectResponse:
    """Answer a form: go to one of our own pages, which shows what was done.

    Args:
        told: In words, without patient data.
    """
    response = RedirectResponse(path, 303)
    if told:
        text = json.dumps({"text": told, "is_error": is_error})
        value = base64.urlsafe_b64encode(text.encode()).decode()
        response.set_cookie(_FLASH, value, max_age=60, httponly=True, samesite="strict")
    return response


def _flash_of(request: Request) -> dict[str, Any] | None:
    value = request.cookies.get(_FLASH)
    if not value:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(value))
        return {"text": str(found["text"]), "is_error": bool(found["is_error"])}
    except (ValueError, KeyError, TypeError):
        return None


__all__ = [
    "Admin",
    "Caller",
    "Context",
    "Operator",
    "Read",
    "Response",
    "Viewer",
    "go",
    "page",
]
