"""Whatever a script sends to the API, it gets an answer and never a server error."""

from __future__ import annotations

from typing import Any

import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings

from dicom_node.model.access import Role
from tests.unit.web.conftest import WebSite
from tests.unit.web.studies import settled

_EXAMPLES = 8


def _ask(script: TestClient, operation: Any) -> None:
    """Send requests that fit an end point's description, and some that nearly do."""

    @settings(
        max_examples=_EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        asked = case.as_transport_kwargs(base_url="http://127.0.0.1:8080")
        known = ("method", "url", "params", "json", "data", "content", "files")
        answer = script.request(**{key: asked[key] for key in known if asked.get(key) is not None})
        assert answer.status_code < 500, f"{case.method} {case.path}: {answer.text[:500]}"

    ask()


def test_no_request_makes_a_server_error(web: WebSite) -> None:
    settled(web)
    script = web.script(Role.ADMIN)
    schema = schemathesis.openapi.from_dict(script.get("/api/v1/openapi.json").json())
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 10
    for operation in operations:
        _ask(script, operation)


def test_the_description_names_every_end_point_and_the_token(web: WebSite) -> None:
    document = web.script(Role.VIEWER).get("/api/v1/openapi.json").json()
    assert "/api/v1/studies/{study_uid}/{action}" in document["paths"]
    assert all(path.startswith("/api/v1/") for path in document["paths"])
    assert document["security"] == [{"token": []}]
