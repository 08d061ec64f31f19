"""The conformance statement has what PS3.2 asks for, and its table says where."""

from __future__ import annotations

import re
from pathlib import Path

TEXT = (Path(__file__).parents[3] / "docs" / "conformance.md").read_text(encoding="utf-8")


def test_every_section_of_the_template_is_answered_in_order() -> None:
    section = TEXT.partition("## Where PS3.2 has it")[2].partition("\n## ")[0]
    first = [row.split("|")[1].strip() for row in section.splitlines() if row.startswith("| A.")]
    # PS3.2 2020a, Annex A; A.0 is the cover page and A.2 the table of contents
    assert re.findall(r"A\.[\d.]+", " ".join(first)) == [
        *("A.1", "A.3", "A.4.1", "A.4.2", "A.4.3", "A.4.4", "A.5", "A.6", "A.7", "A.8"),
        *("A.9.1", "A.9.2", "A.9.3", "A.9.4", "A.9.5", "A.9.6"),
    ]
