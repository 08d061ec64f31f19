"""What a document points at is there: headings of other documents, and files of deploy/."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))


def anchor(heading: str) -> str:
    """The anchor that a heading gets on the usual forges."""
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_every_link_between_the_documents_leads_to_a_heading(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    for target, name in re.findall(r"\]\(([\w-]+\.md)?#([\w-]+)\)", text):
        headings = re.findall(r"^#+ (.+)$", (DOCS / (target or page)).read_text(), re.MULTILINE)
        assert name in {anchor(heading) for heading in headings}, (target, name)


@pytest.mark.parametrize("page", PAGES)
def test_every_file_of_deploy_that_a_document_names_is_there(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    named = set(re.findall(r"deploy/[\w@./-]*[\w]", text))
    assert "deploy/systemd/dicom-node.service" in named or page != "install.md"
    assert {name for name in named if not (ROOT / name).exists()} == set()
