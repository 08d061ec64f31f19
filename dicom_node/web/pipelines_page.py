"""Pipelines: what they are, how they do, and whether their answers drift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from markdown_it import MarkdownIt
from markupsafe import Markup

from dicom_node.inference.bundles import Bundle, weights_entry
from dicom_node.model.states import JobState
from dicom_node.model.wording import in_words, unit_sign
from dicom_node.store import pipeline_figures
from dicom_node.store.pipeline_figures import Day, PipelineFigures
from dicom_node.store.pipeline_scores import Scores, scores
from dicom_node.web.context import WebContext
from dicom_node.web.failures import NotThereError
from dicom_node.web.requests import Context, Read, Viewer, page

router = APIRouter(include_in_schema=False)
api = APIRouter(prefix="/api/v1", tags=["pipelines"])

_FIGURES_OF: Final = timedelta(days=30)
_DRIFT_OF: Final = timedelta(weeks=12)
STABLE: Final = 0.1
SHIFTED: Final = 0.25
_LONGEST_CARD: Final = 200_000

_markdown: Final = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table")


@dataclass(frozen=True, slots=True)
class PipelineLine:
    """A pipeline that the node has, and how its present version does.

    Attributes:
        routes: Names of the routes that run it.
        figures: Of the last 30 days; None: nothing of this version ended.
    """

    name: str
    title: str
    version: str
    weights_sha256: str
    demonstration: bool
    takes: str
    routes: tuple[str, ...]
    figures: PipelineFigures | None


@dataclass(frozen=True, slots=True)
class Bar:
    """One day of a chart of 100 units height; places and heights of its parts, from below."""

    x: float
    day: date
    total: int
    done: tuple[float, float]
    declined: tuple[float, float]
    failed: tuple[float, float]


def pipeline_lines(context: WebContext, figures: Sequence[PipelineFigures]) -> list[PipelineLine]:
    """Return each pipeline, those that a route runs first."""
    by_version = {(item.pipeline, item.version): item for item in figures}
    lines = [
        PipelineLine(
            bundle.name,
            bundle.spec.title,
            bundle.version,
            bundle.weights_sha256,
            bundle.demonstration,
            f"each {bundle.spec.input.kind}: {in_words(bundle.spec.input.when)}",
            tuple(route.name for route in context.config.routes if bundle.name in route.run),
            by_version.get((bundle.name, bundle.version)),
        )
        for bundle in context.bundles.values()
    ]
    return sorted(lines, key=lambda line: (not line.routes, line.name))


@router.get("/pipelines")
def pipelines_page(request: Request, context: Context, session: Read, caller: Viewer) -> Response:
    figures = pipeline_figures.in_use(session, context.clock.now() - _FIGURES_OF)
    lines = pipeline_lines(context, figures)
    current = {(line.name, line.version) for line in lines}
    return page(
        request,
        "pipelines.html",
        pipelines=lines,
        earlier=[item for item in figures if (item.pipeline, item.version) not in current],
        days=_FIGURES_OF.days,
    )


@router.get("/pipelines/{name}")
def pipeline_page(
    request: Request, context: Context, session: Read, caller: Viewer, name: str
) -> Response:
    bundle = _bundle(context, name)
    now = context.clock.now()
    figures = pipeline_figures.in_use(session, now - _FIGURES_OF)
    line = next(item for item in pipeline_lines(context, figures) if item.name == name)
    entry = weights_entry(bundle)
    return page(
        request,
        "pipeline.html",
        line=line,
        bundle=bundle,
        bars=bars(pipeline_figures.by_day(session, name, now - _FIGURES_OF), now.date()),
        days=_FIGURES_OF.days,
        scores=[
            drift(item) for item in scores(session, name, bundle.version, now - _DRIFT_OF, now)
        ],
        data=[str(item) for item in entry.data] if entry else [],
        stated=_flat(entry.figures) if entry else [],
        card=card_of(bundle),
    )


def card_of(bundle: Bundle) -> Markup | None:
    """Return the model card of a pipeline's weights as HTML; None: it has none.

    Made by a renderer that lets no HTML of the card through and no link but http, https and
    mailto.
    """
    entry = weights_entry(bundle)
    for file in _cards(bundle, entry.card if entry else None):
        try:
            text = file.read_text(encoding="utf-8", errors="replace")[:_LONGEST_CARD]
        except OSError:
            continue
        return Markup(_as_html(text))
    return None


def _as_html(text: str) -> str:
    """Return a card as HTML, its headings below the page's own."""
    tokens = _markdown.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
    return str(_markdown.renderer.render(tokens, _markdown.options, {}))


def _cards(bundle: Bundle, named: str | None) -> list[Path]:
    home = bundle.weights.parent
    files = [bundle.weights.with_suffix(".md")]
    if named is not None:
        # the manifest lies beside the weights, or one folder above
        files = [home / named, home.parent / named, *files]
    return [*files, bundle.folder / "docs" / "README.md"]


def bars(days: Sequence[Day], last: date) -> list[Bar]:
    """Return a chart of what ended on each day, 10 units a day wide."""
    by_day = {item.day: item for item in days}
    most = max((item.total for item in days), default=0) or 1
    found = []
    for number in range(_FIGURES_OF.days):
        day = last - timedelta(days=_FIGURES_OF.days - 1 - number)
        states = by_day[day].states if day in by_day else {}
        below = 100.0
        parts = []
        for state in (JobState.DONE, JobState.NOT_EVALUATED, JobState.FAILED):
            height = 100 * states.get(state, 0) / most
            below -= height
            parts.append((round(below, 2), round(height, 2)))
        found.append(Bar(number * 10, day, sum(states.values()), parts[0], parts[1], parts[2]))
    return found


def drift(found: Scores) -> dict[str, Any]:
    """Return what the page shows of a question: columns of shares for reference and weeks."""
    first = (found.reference_number, found.reference, None, None, None)
    columns: list[tuple[str, int, Sequence[float], float | None, float | None, float | None]] = [
        ("first", *first)
    ]
    for week in found.weeks:
        name = week.start.strftime("%d %b")
        columns.append((name, week.number, week.shares, week.psi, week.mean, week.mean_set_size))
    return {
        "question": found.question,
        "unit": unit_sign(found.unit),
        "parts": found.parts,
        "columns": [
            {
                "name": name,
                "number": number,
                "shares": shares,
                "stack": _stack(shares),
                "psi": psi,
                "mean": mean,
                "set_size": size,
                "verdict": _verdict(psi) if name != "first" else ("", ""),
            }
            for name, number, shares, psi, mean, size in columns
        ],
        "reference_number": found.reference_number,
    }


def _stack(shares: Sequence[float]) -> list[tuple[float, float]]:
    below = 0.0
    stack = []
    for share in shares:
        stack.append((round(below * 100, 2), round(share * 100, 2)))
        below += share
    return stack


def _verdict(psi: float | None) -> tuple[str, str]:
    if psi is None:
        return "", "too few"
    if psi < STABLE:
        return "good", "stable"
    return ("warn", "moved") if psi < SHIFTED else ("bad", "shifted")


def _flat(figures: Any, before: str = "") -> list[tuple[str, str]]:
    """Return nested figures as pairs of a dotted name and a value."""
    if isinstance(figures, dict):
        return [
            pair
            for key, value in figures.items()
            for pair in _flat(value, f"{before}.{key}" if before else str(key))
        ]
    return [(before.replace("_", " "), str(figures))]


def _bundle(context: WebContext, name: str) -> Bundle:
    if name not in context.bundles:
        known = ", ".join(context.bundles) or "none"
        raise NotThereError(f"pipeline {name}", "this node has none of that name", known)
    return context.bundles[name]


@dataclass(frozen=True, slots=True)
class PipelineDetail:
    """A pipeline with what it did on each day and what it answered week by week."""

    line: PipelineLine
    days: list[Day]
    scores: list[Scores]
    data: list[str]
    read_at: datetime


@api.get("/pipelines")
def read_pipelines(context: Context, session: Read, caller: Viewer) -> list[PipelineLine]:
    """Return each pipeline and how its present version did in the last 30 days."""
    since = context.clock.now() - _FIGURES_OF
    return pipeline_lines(context, pipeline_figures.in_use(session, since))


@api.get("/pipelines/{name}")
def read_pipeline(
    context: Context,
    session: Read,
    caller: Viewer,
    name: str,
    days: Annotated[int, Query(ge=1, le=366)] = 30,
) -> PipelineDetail:
    """Return one pipeline: its figures by day, and its answers by week."""
    bundle = _bundle(context, name)
    now = context.clock.now()
    since = now - timedelta(days=days)
    lines = pipeline_lines(context, pipeline_figures.in_use(session, since))
    entry = weights_entry(bundle)
    return PipelineDetail(
        next(line for line in lines if line.name == name),
        pipeline_figures.by_day(session, name, since),
        scores(session, name, bundle.version, now - _DRIFT_OF, now),
        [str(item) for item in entry.data] if entry else [],
        now,
    )
