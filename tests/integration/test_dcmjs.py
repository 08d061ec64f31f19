"""OHIF's libraries, dcmjs and @cornerstonejs/adapters, read our reports to the same findings."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dicom_node.model.codes import Code
from dicom_node.model.findings import (
    Classification,
    Finding,
    Findings,
    Measurement,
    NotEvaluated,
    Side,
)
from dicom_node.model.own_codes import REASON
from tests.integration import results_matrix as matrix

_SCRIPTS = Path(__file__).parents[1] / "peers" / "js"
_CASES = [case for case in matrix.cases() if case.syntax == "1.2.840.10008.1.2.1"]
_NAMED = [
    case
    for case in _CASES
    if (case.pipeline, case.outcome) == ("knee_kl_ensemble", "found")
    and len(matrix.CHARACTER_SETS[case.charset][0]) < 2
]
"""dcmjs knows no more than one character set in a file."""
_FINDING_SITE = ["363698007", "SCT"]
_SIDES = {Side.RIGHT: "Right", Side.LEFT: "Left"}


@dataclass(frozen=True)
class Read:
    """What we found, and what the libraries say of its report."""

    findings: Findings
    said: dict[str, Any]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Read]:
    """Every case by its name; the libraries are started once for all."""
    node = shutil.which("node")
    assert node, "Node.js is not installed: `make peers` installs it"
    assert (_SCRIPTS / "node_modules").is_dir(), "the npm packages are missing: `make peers`"
    folder = tmp_path_factory.mktemp("reports")
    files = {case.name: folder / f"{case.name}.dcm" for case in _CASES}
    found = {}
    for case in _CASES:
        found[case.name], report = case.findings_and_report()
        files[case.name].write_bytes(report.objects[0].encoded)
    done = subprocess.run(
        [node, _SCRIPTS / "read_reports.mjs", *files.values()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout)
    return {name: Read(found[name], answer[str(file)]) for name, file in files.items()}


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case.name)
def test_the_adapters_read_the_same_findings(case: matrix.Case, read: dict[str, Read]) -> None:
    findings, found = read[case.name].findings, read[case.name].said
    assert _plain(findings.statement) in map(_plain, found["words"])
    assert "AI result - research use only - not for diagnosis" in found["words"]
    for item in findings.items:
        if isinstance(item, Classification | Measurement | NotEvaluated):
            groups = [g for g in found["groups"] if g["tracking"] == item.subject.name]
            assert any(_says(group, item) for group in groups), (case.name, item)
    for group in found["groups"]:
        assert group["images"], "a group without its source images"


def test_the_adapters_own_tools_find_nothing_to_draw(read: dict[str, Read]) -> None:
    """Our groups have no coordinates; docs/results.md says so."""
    assert {tuple(one.said["tools"]) for one in read.values()} == {()}


@pytest.mark.parametrize("case", _NAMED, ids=lambda case: case.charset)
def test_dcmjs_reads_the_name_in_its_character_set(
    case: matrix.Case, read: dict[str, Read]
) -> None:
    name = matrix.CHARACTER_SETS[case.charset][1]
    said = read[case.name].said["patient"]
    groups = name.split("=")
    assert [said.get(key, "") for key in ("Alphabetic", "Ideographic", "Phonetic")] == [
        *groups,
        *[""] * (3 - len(groups)),
    ]


def _says(group: dict[str, Any], item: Finding) -> bool:
    """Whether a group has the finding: all of its codes, numbers and units, side and site."""
    subject = item.subject
    site = next(c for c in group["codes"] if c["name"][:2] == _FINDING_SITE)
    sides = [m["value"][2] for m in site["modifiers"]]
    if site["value"][:2] != _pair(subject.anatomy):
        return False
    if sides != [side for side in [_SIDES.get(subject.side)] if side]:
        return False
    codes = [(c["name"][:2], c["value"][:2]) for c in group["codes"]]
    numbers = [
        (n["name"][:2], n["value"], n["unit"][:2], [m["value"][:2] for m in n["modifiers"]])
        for n in group["numbers"]
    ]
    match item:
        case Classification():
            labels = [_pair(label.code) for label in item.labels]
            answered = (_pair(item.question), labels[item.predicted]) in codes
            if item.rule:
                return answered
            return answered and all(
                any(
                    value == pytest.approx(100 * probability, rel=1e-5)
                    and unit == ["%", "UCUM"]
                    and label in about
                    for _, value, unit, about in numbers
                )
                for label, probability in zip(labels, item.probabilities, strict=True)
            )
        case Measurement():
            return any(
                name == _pair(item.concept)
                and value == pytest.approx(item.value, rel=1e-5)
                and unit == _pair(item.unit)
                for name, value, unit, _ in numbers
            )
        case NotEvaluated():
            said = [text["value"] for text in group["texts"]]
            return (_pair(REASON), _pair(item.reason)) in codes and item.text in said
    return False


def _plain(text: str) -> str:
    """Without signs that are not ASCII: inside sequences dcmjs reads every text as Latin-1.

    We write "+/-" for a plus-minus sign where the character set has none.
    """
    return re.sub(r"[^ -~]+|\+/-", "", text)


def _pair(code: Code) -> list[str]:
    return [code.value, code.scheme]
