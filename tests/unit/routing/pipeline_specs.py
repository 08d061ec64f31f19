"""The smallest pipeline that a route can name."""

from __future__ import annotations

from typing import Any

from dicom_node.model.pipeline import PipelineSpec

_KNEE = {"value": "72696002", "scheme": "SCT", "meaning": "Knee"}


def pipeline(
    kind: str = "radiograph", *, min_instances: int = 1, when: dict[str, Any] | None = None
) -> PipelineSpec:
    """Make a pipeline with an input selector; what it puts out does not matter to routing."""
    return PipelineSpec.model_validate(
        {
            "title": "Test",
            "procedure": {"value": "168537006", "scheme": "SCT", "meaning": "Plain radiography"},
            "anatomy": _KNEE,
            "input": {"kind": kind, "when": when or {}, "min_instances": min_instances},
            "outputs": [{"type": "region", "key": "mask", "label": _KNEE}],
            "statement": "{subject}",
            "series_number": 9000,
        }
    )
