"""A card of words, for findings about images of which no picture could be read."""

from __future__ import annotations

import numpy as np

from dicom_node.model.findings import Findings
from dicom_node.results.captions import panel_blocks
from dicom_node.results.margin import set_panel
from dicom_node.results.overlay import Composition, subject_colours

_WIDTH, _HEIGHT, _BASE = 1200, 900, 30


def compose_card(findings: Findings) -> Composition:
    """The words that would stand beside the picture, alone."""
    blocks = panel_blocks(
        findings, findings.items, subject_colours(findings.items), ["No picture could be shown"]
    )
    panel = set_panel(blocks, _WIDTH, _BASE, _HEIGHT)
    return Composition(np.asarray(panel), 0.0, "No picture could be shown")
