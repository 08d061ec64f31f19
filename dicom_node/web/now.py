"""The page *Now*: what needs a person, what goes through, and how each peer does; live."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from dicom_node.serve.gpu import Gpu, gpus
from dicom_node.serve.situation import Situation, situation
from dicom_node.web.callers import caller_of
from dicom_node.web.charts import chart
from dicom_node.web.context import WebContext
from dicom_node.web.failures import GONE
from dicom_node.web.requests import Context, Viewer, page

router = APIRouter(include_in_schema=False)
api = APIRouter(prefix="/api/v1", tags=["now"])

_EVERY: Final = 2.0
_MOST_STREAMS: Final = 64
_SILENCE: Final = 15.0
_ALIVE_FOR: Final = 30.0
"""The page is drawn anew at least so often, for "3 min ago" to stay true."""
_METRICS: Final = (
    ("received", "Received", "studies that began to come"),
    ("finished", "Analysed", "jobs that ended with a result"),
    ("delivered", "Delivered", "objects that a peer took"),
    ("failed", "Failed", "jobs that failed, deliveries that were given up"),
)


@dataclass(frozen=True, slots=True)
class View:
    """What the page shows; taken anew at most every two seconds, however many look."""

    situation: Situation
    gpus: tuple[Gpu, ...]

    @property
    def key(self) -> str:
        """Changes when something is seen that was not before."""
        at = self.situation.at
        plain = repr((replace(self.situation, at=at.min), self.gpus, at.timestamp() // _ALIVE_FOR))
        return hashlib.sha256(plain.encode()).hexdigest()[:16]


class Lookout:
    """Looks for all who want to see; one at a time."""

    def __init__(self, context: WebContext) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._last: View | None = None
        self.streams = 0

    def look(self, oldest: float = _EVERY) -> View:
        """Return a view that is at most so many seconds old."""
        context = self._context
        with self._lock:
            now = context.clock.now()
            last = self._last
            if last is None or now - last.situation.at >= timedelta(seconds=oldest):
                with context.database.read() as session:
                    found = situation(context.config, session, now, context.config_file)
                last = self._last = View(found, tuple(gpus()))
            return last


def lookout_of(request: Request) -> Lookout:
    """Return the process's lookout."""
    state = request.app.state
    if not hasattr(state, "lookout"):
        state.lookout = Lookout(state.context)
    lookout: Lookout = state.lookout
    return lookout


@router.get("/")
def now_page(request: Request, caller: Viewer) -> Response:
    """The first page."""
    return page(request, "now.html", **_shown(lookout_of(request).look(oldest=0.5)))


@router.get("/live/now")
def now_part(request: Request, caller: Viewer) -> Response:
    """The part of the first page that changes."""
    return page(request, "_now.html", **_shown(lookout_of(request).look()))


@router.get("/live/events")
async def now_events(request: Request, context: Context, caller: Viewer) -> Response:
    """Server-sent events: one whenever the first page is to be drawn anew."""
    lookout = lookout_of(request)
    if lookout.streams >= _MOST_STREAMS:
        return Response("too many look already\n", 503, {"Retry-After": "30"})
    return StreamingResponse(_events(request, context, lookout), media_type="text/event-stream")


async def _events(request: Request, context: WebContext, lookout: Lookout) -> AsyncIterator[str]:
    lookout.streams += 1
    try:
        last, silent, alive = "", 0.0, 0.0
        yield "retry: 3000\n\n"
        while not context.stop.is_set():
            view = await run_in_threadpool(lookout.look)
            silent, alive = silent + _EVERY, alive + _EVERY
            if view.key != last:
                last, silent = view.key, 0.0
                told = json.dumps({"key": last, "needs": len(view.situation.needs)})
                yield f"event: now\ndata: {told}\n\n"
            elif silent >= _SILENCE:
                silent = 0.0
                yield ": still here\n\n"
            if alive >= _ALIVE_FOR:
                alive = 0.0
                # whoever has logged out or is timed out sees no more
                if await run_in_threadpool(caller_of, request) is None:
                    yield GONE
                    return
            await _wait(context)
    finally:
        lookout.streams -= 1


async def _wait(context: WebContext) -> None:
    """Until it is time to look again, or the process is to end."""
    for _ in range(10):
        if context.stop.is_set():
            return
        await asyncio.sleep(_EVERY / 10)


@api.get("/now")
def now_api(request: Request, caller: Viewer) -> View:
    """How the node does: what needs a person, counts of the last hour and day, each peer."""
    return lookout_of(request).look()


def _shown(view: View) -> dict[str, Any]:
    found = view.situation
    return {
        "seen": found,
        "gpus": view.gpus,
        "key": view.key,
        "metrics": [
            {
                "name": name,
                "title": title,
                "meaning": meaning,
                "hour": chart(getattr(found.hour, name), "5 minutes"),
                "day": chart(getattr(found.day, name), "hour"),
            }
            for name, title, meaning in _METRICS
        ],
    }
