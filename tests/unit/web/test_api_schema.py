"""Whatever a script sends by the OpenAPI description, or against it, the node never breaks."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import response_schema_conformance

from dicom_node.model.access import Role
from tests.unit.web.conftest import ADDRESS, WebSite

_EXAMPLES = 6
"""Of each operation, as described and against it."""


def test_no_request_of_a_script_breaks_the_node(
    web: WebSite, monkeypatch: pytest.MonkeyPatch, long: bool
) -> None:
    # a peer that would be asked is far away, and every example would wait for it
    monkeypatch.setattr("dicom_node.delivery.CStore.check", lambda self: "nobody there")
    schema = schemathesis.openapi.from_dict(web.app.openapi())
    schema.app = web.app
    examples = _EXAMPLES * (20 if long else 1)
    statuses = {
        operation.label: [
            status
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
            for status in _statuses(web, operation, mode, examples)
        ]
        for operation in (item.ok() for item in schema.get_all_operations())
    }
    assert sum(map(len, statuses.values())) >= 150
    answered = {label for label, found in statuses.items() if {200, 201, 204} & set(found)}
    # it is not all refused at the door
    assert len(answered) >= len(statuses) // 2, statuses


def _statuses(
    web: WebSite, operation: APIOperation, mode: GenerationMode, examples: int
) -> list[int]:
    """Ask an end point with so many examples; returns the status of each answer."""
    found: list[int] = []

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def answers(case: Case) -> None:
        # some of the end points end what a token is good for: each example has its own
        token = web.script(Role.ADMIN).headers["Authorization"]
        answer = case.call(ADDRESS, headers={"Authorization": token})
        found.append(answer.status_code)
        case.validate_response(answer, checks=[not_a_server_error, response_schema_conformance])

    try:
        answers()
    except Unsatisfiable:
        # without parameters there is nothing to get wrong
        assert mode is GenerationMode.NEGATIVE, operation.label
    return found
