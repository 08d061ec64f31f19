"""The routes of the demo: a knee, a hip and a CT each to its pipeline, all to the PACS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

ROUTES: Final[tuple[Mapping[str, Any], ...]] = (
    {
        "name": "knee radiographs",
        "when": {"modality": ["CR", "DX"], "body_part": "knee", "view": ["AP", "PA"]},
        "run": ["knee_kl_ensemble"],
        "send_to": ["pacs"],
    },
    {
        "name": "hip radiographs",
        "when": {"modality": ["CR", "DX"], "body_part": "hip"},
        "run": ["hip_fixation_device"],
        "send_to": ["pacs"],
    },
    {
        "name": "abdominal CT without contrast",
        "when": {
            "modality": "CT",
            "body_part": ["abdomen", "lspine"],
            "contrast": False,
            "slice_thickness_mm": {"max": 5},
        },
        "run": ["lumbar_bmd_ct"],
        "send_to": ["pacs"],
    },
)
"""As in `node.yaml`."""
