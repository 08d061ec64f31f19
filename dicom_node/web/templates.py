"""The pages' templates: what each of them knows beside its own values."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined

from dicom_node import __version__
from dicom_node.routing.reasons import SEPARATOR
from dicom_node.web.callers import CSRF_FIELD, Caller
from dicom_node.web.context import WebContext
from dicom_node.web.navigation import NAVIGATION


def render(request: Request, template: str, **values: Any) -> str:
    """Fill in a template; everything in it is escaped.

    Every template knows: `caller` (None before the log-in), `now`, `node_name`, `navigation`,
    `here` (the path), and the filters below.
    """
    context: WebContext = request.app.state.context
    caller: Caller | None = getattr(request.state, "caller", None)
    known = {
        "caller": caller,
        "csrf_field": CSRF_FIELD,
        # in a macro, Jinja's own `caller` is another
        "csrf": caller.csrf if caller else "",
        "now": context.clock.now(),
        "node_name": context.config.node.ae_title[0],
        "version": __version__,
        "here": request.url.path,
        "navigation": [
            entry for entry in NAVIGATION if caller is not None and caller.may(entry.role)
        ],
    }
    return _environment.get_template(template).render(**{**known, **values})


def ago(at: datetime | None, now: datetime) -> str:
    """Return how long ago something was: "3 min ago"."""
    if at is None:
        return "never"
    seconds = int((now - at).total_seconds())
    if seconds < 0:
        return f"in {span(timedelta(seconds=-seconds))}"
    return "just now" if seconds < 5 else f"{span(timedelta(seconds=seconds))} ago"


def span(length: timedelta | float | None) -> str:
    """Return a length of time in its largest unit: "3 min"."""
    if length is None:
        return ""
    seconds = int(length.total_seconds() if isinstance(length, timedelta) else length)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (size < 86400 and seconds >= size):
            return f"{seconds // size} {unit}"
    return f"{seconds} s" if seconds else "less than 1 s"


def local(at: datetime | None, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return a time by the node's clock and zone."""
    return "" if at is None else at.astimezone().strftime(form)


def day(date: str) -> str:
    """Return a date as DICOM writes it, 20260131, as a person reads it."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if date else ""


def person(name: str) -> str:
    """Return a name as DICOM writes it, Doe^Jane=..., as a person reads it: "Doe, Jane"."""
    first = name.partition("=")[0] or name
    parts = [part.strip() for part in first.split("^")]
    given = " ".join(filter(None, parts[1:3]))
    return ", ".join(filter(None, (parts[0], given)))


def reasons(text: str) -> str:
    """Return why no route wanted a study, one route after the other."""
    return "; ".join(text.split(SEPARATOR))


def number(value: float | None) -> str:
    """Return a number with thin spaces between its thousands."""
    return "" if value is None else f"{value:,}".replace(",", "\u202f")


_environment: Final = Environment(
    loader=PackageLoader("dicom_node.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters.update(
    ago=ago, day=day, person=person, reasons=reasons, span=span, local=local, number=number
)
