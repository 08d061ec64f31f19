"""docs/results.md: what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

from dicom_node.model.pipeline import ResultObject

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def test_every_requirement_of_air_names_code_and_a_test_that_exist() -> None:
    section = PAGE.partition("## IHE AI Results")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if "`test_" in line]
    assert len(rows) > 15
    for requirement, where, test in rows:
        for path in re.findall(r"`(.+?)`", where):
            assert (ROOT / "dicom_node" / path).is_file(), (requirement, path)
        file, name = re.findall(r"`(.+?)`", test)
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert f"\ndef {name}(" in text, (requirement, name)


def test_every_object_is_described_with_its_place() -> None:
    described = re.findall(r"^\| `(\w+)` \| .+? \| \+ (\d) \|", PAGE, re.MULTILINE)
    assert described == [(str(kind), str(place)) for place, kind in enumerate(ResultObject, 2)]
    keys = (ROOT / "docs" / "add-a-pipeline.md").read_text(encoding="utf-8")
    row = next(line for line in keys.splitlines() if line.startswith("| `objects`"))
    assert re.findall(r"`(\w+)`", row)[1:] == [str(kind) for kind in ResultObject]
