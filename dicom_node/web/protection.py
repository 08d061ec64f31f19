"""What stands before every page: host, origin and length of a request; headers of every answer."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.web.callers import caller_of
from dicom_node.web.context import WebContext
from dicom_node.web.failures import own_failure

LARGE_UPLOADS: Final = frozenset({"/routes/try", "/api/v1/routes/try"})
"""Paths to which somebody who is logged in may send up to `web.max_upload_mb`."""
_SMALL: Final = 1024 * 1024
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # "no-referrer" would let browsers hide the origin of our own forms
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_HSTS: Final = "max-age=31536000"


class Protection:
    """Refuses what no browser of ours sends, and puts the security headers on every answer."""

    def __init__(self, app: ASGIApp, context: WebContext) -> None:
        self._app = app
        self._context = context
        # asked once: the name service may take seconds
        self._own_names = {"localhost", socket.gethostname().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        has_begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                if not scope["path"].startswith("/static/"):
                    headers["Cache-Control"] = "no-store"
                if self._context.web.is_https:
                    headers["Strict-Transport-Security"] = _HSTS
            await send(message)

        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
            return
        limit = _SMALL
        if scope["path"] in LARGE_UPLOADS and scope["method"] not in _SAFE:
            scope.setdefault("state", {})
            if await run_in_threadpool(caller_of, Request(scope, receive)) is not None:
                limit = self._context.web.max_upload_mb * _SMALL
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > limit:
            await _said(413, "this is more than the node takes")(scope, receive, send_with_headers)
            return
        try:
            await self._app(scope, _limited(receive, limit), send_with_headers)
        except Exception as error:
            # the last line before a trace in a browser
            if has_begun:
                raise
            await own_failure(Request(scope), error)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return _said(421, "this node is not known by that name: see `web.allowed_hosts`")
        if scope["method"] not in _SAFE:
            origin = headers.get("origin")
            if origin is not None and urlsplit(origin).netloc != host:
                return _said(403, "the form comes from another site")
            if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
                return _said(403, "the form comes from another site")
        return None

    def _is_ours(self, host: str) -> bool:
        """A name that somebody's DNS points here is not; a plain address cannot be such a name."""
        name = (urlsplit(f"//{host}").hostname or "").lower()
        web = self._context.web
        if name in self._own_names | {item.lower() for item in (web.host, *web.allowed_hosts)}:
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return True


def _limited(receive: Receive, limit: int) -> Receive:
    """Cut off a body that goes on beyond the limit, whatever length it announced."""
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            return {"type": "http.disconnect"}
        return message

    return limited


def _said(status: int, text: str) -> Response:
    return PlainTextResponse(f"{text}\n", status)
