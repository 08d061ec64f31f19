"""The application: every page and every end point of the API, behind one protection."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import APIRouter, FastAPI
from starlette.staticfiles import StaticFiles

from dicom_node import __version__
from dicom_node.web import (
    access,
    health,
    metrics,
    now,
    openapi,
    peers_page,
    pipelines_page,
    provider_pages,
    routes_api,
    routes_page,
    studies,
    studies_api,
    study,
    study_actions,
)
from dicom_node.web.context import WebContext
from dicom_node.web.failures import add_handlers
from dicom_node.web.protection import Protection

ROUTERS: Final[tuple[APIRouter, ...]] = (
    health.router,
    metrics.router,
    access.router,
    provider_pages.router,
    now.router,
    now.api,
    openapi.router,
    studies.router,
    study.router,
    study_actions.router,
    studies_api.api,
    routes_page.router,
    routes_api.api,
    peers_page.router,
    peers_page.api,
    pipelines_page.router,
    pipelines_page.api,
)
"""Pages and API; each end point names the role that it needs, but for PUBLIC."""

PUBLIC: Final = frozenset(
    {"/login", "/login/provider", "/login/callback", "/setup", "/healthz", "/readyz", "/metrics"}
)
"""Paths for which nobody has to be logged in; a test holds every other one to it."""


def create_app(context: WebContext) -> FastAPI:
    """Return the application of one node."""
    app = FastAPI(
        title="dicom-node",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.context = context
    for router in ROUTERS:
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), "static")
    add_handlers(app)
    app.add_middleware(Protection, context=context)
    return app
