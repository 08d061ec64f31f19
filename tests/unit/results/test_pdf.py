"""The words and the picture on the pages of the PDF: all there, none beyond the paper's edge."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from dicom_node.model.codes import VOLUME, Code
from dicom_node.model.findings import Findings, Measurement, Side, Subject
from dicom_node.model.pipeline import ResultObject
from dicom_node.results.drawing import font
from dicom_node.results.origin import RESEARCH_ONLY
from dicom_node.results.report import build_report
from tests.unit.results import samples

HEADER = samples.knee_header()
MARGIN = 0.08
WIDE, HIGH = 8.27 * 72, 11.69 * 72
"""A4 in points."""


@dataclass(frozen=True)
class Text:
    """A text as it stands on a page, in points from its lower left corner."""

    left: float
    foot: float
    size: float
    said: str

    @property
    def right(self) -> float:
        return self.left + font(100).getlength(self.said) * self.size / 100


@dataclass(frozen=True)
class Page:
    texts: tuple[Text, ...]
    pictures: tuple[tuple[float, float], ...]
    """(foot, top) of each."""

    @property
    def said(self) -> list[str]:
        return [text.said for text in self.texts]


def _page(content: str) -> Page:
    texts = [
        Text(float(left), float(foot), float(size), "".join(re.findall(r"\((\\?.)\)", shown)))
        for left, foot, size, shown in re.findall(
            r"1 0 -0 1 (\S+) (\S+) cm\nBT\n/F\d+ (\S+) Tf\n0 0 Td\n\s*\[(.*?)\]\s*TJ", content, re.S
        )
    ]
    assert len(texts) == content.count("BT\n")
    pictures = re.findall(r"\S+ 0 0 (\S+) \S+ (\S+) cm /I\d+ Do", content)
    assert len(pictures) == content.count("/I")
    return Page(
        tuple(texts), tuple((float(foot), float(foot) + float(high)) for high, foot in pictures)
    )


def pages_of(findings: Findings, *, shape: tuple[int, int] = (300, 200)) -> list[Page]:
    spec = samples.SPEC.model_copy(update={"objects": [ResultObject.PDF]})
    pictures = {str(HEADER.SOPInstanceUID): np.full(shape, 90, np.uint8)}
    report = build_report(findings, [HEADER], pictures, spec)
    document = bytes(report.objects[-1].dataset.EncapsulatedDocument)
    streams = re.findall(rb"/FlateDecode >>\nstream\n(.*?)\nendstream", document, re.S)
    contents = [zlib.decompress(stream) for stream in streams]
    pages = [_page(c.decode("latin-1")) for c in contents if b"BT\n" in c]
    assert len(pages) == document.count(b"/Type /Page ")
    return pages


def many(count: int, statement: str = "Measured.") -> Findings:
    unit = Code("cm3", "UCUM", "cm3")
    items = [
        Measurement(
            Subject(f"structure {n}", samples.KNEE, Side.NONE, (samples.reference(HEADER),)),
            VOLUME,
            n + 0.3,
            unit,
        )
        for n in range(1, count + 1)
    ]
    return samples.findings(HEADER, items, statement=statement)


def lines(page: Page) -> Sequence[Text]:
    return [text for text in page.texts if text.size == 9]


@pytest.mark.parametrize("count", [3, 25, 35, 57, 130])
def test_every_finding_stands_on_a_page(count: int) -> None:
    pages = pages_of(many(count))
    said = [text.said.split(":")[0] for page in pages for text in lines(page)]
    assert [s for s in said if s.startswith("structure")] == [
        f"structure {n}" for n in range(1, count + 1)
    ]
    for number, page in enumerate(pages, start=1):
        assert RESEARCH_ONLY in page.said
        assert f"page {number} of {len(pages)}" in page.said
        assert all(text.foot > MARGIN * HIGH / 3 for text in page.texts)
        assert all(text.foot > MARGIN * HIGH for text in lines(page))
        assert all(text.right < WIDE for text in page.texts)


@pytest.mark.parametrize("count", [3, 25, 35, 57])
def test_the_picture_covers_no_word_and_is_large_enough_to_see(count: int) -> None:
    pages = pages_of(many(count))
    assert [len(page.pictures) for page in pages] == [0] * (len(pages) - 1) + [1]
    foot, top = pages[-1].pictures[0]
    assert foot > MARGIN * HIGH - 1
    assert top < min(text.foot for text in lines(pages[-1]))
    assert top - foot > 0.15 * HIGH


def test_a_long_statement_ends_at_the_margin() -> None:
    statement = "The left lobe is measured without contrast. " * 40
    (page,) = pages_of(many(1, statement))
    said = " ".join(text.said for text in lines(page))
    assert said.count("without") == 40
    assert max(text.right for text in lines(page)) < WIDE * (1 - MARGIN) + 1


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("Structure 1: 1.3 cm³.", False),
        ("Both: structure 1: 1.3 cm³, structure 2: 9 cm³.", False),
        ("Structure 1: 11.3 cm³.", True),
        ("Structure 11: 1.3 cm³.", True),
        ("Substructure 1: 1.3 cm³.", True),
        ("Structure 1: 1.3 cm³/s.", True),
        ("The other one: 1.3 cm³.", True),
    ],
)
def test_only_what_the_statement_says_of_a_subject_is_not_said_again(
    statement: str, said: bool
) -> None:
    findings = replace(many(1), statement=statement)
    wanted = "structure 1: 1.3 "
    assert any(text.startswith(wanted) for page in pages_of(findings) for text in page.said) is said
