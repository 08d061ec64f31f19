"""The description of the API, for who may use it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from dicom_node.web.requests import Viewer

router = APIRouter(include_in_schema=False)


@router.get("/api/v1/openapi.json")
def openapi(request: Request, caller: Viewer) -> dict[str, Any]:
    """OpenAPI 3.1: every end point of the API, with the bearer token that it wants."""
    described: dict[str, Any] = dict(request.app.openapi())
    components = {**described.get("components", {})}
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {**described, "components": components, "security": [{"token": []}]}
