"""The one-way flow of the packages' imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.import_drawing import PAGE, arrows, drawing

_STAGES = {"receive", "studies", "routing", "inference", "results", "delivery"}
_ROOT = Path(__file__).parents[2]


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [program, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
    )


def test_no_stage_imports_another_and_nothing_imports_upwards() -> None:
    found = arrows()
    between = {arrow for arrow in found if set(arrow) <= _STAGES}
    assert between == set()
    assert ("serve", "receive") in found
    assert not {arrow for arrow in found if arrow[0] in {"store", "config"} and arrow[1] in _STAGES}


def test_the_drawing_in_the_docs_is_true() -> None:
    assert drawing(arrows()) in PAGE.read_text(encoding="utf-8"), (
        "run `python -m tests.import_drawing`"
    )


def test_the_contracts_hold() -> None:
    done = _lint_imports(_ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "line",
    [
        "from dicom_node.results.text import report_text",
        "import torch",
    ],
)
def test_a_stage_that_reaches_into_its_neighbour_breaks_the_contracts(
    tmp_path: Path, line: str
) -> None:
    (tmp_path / "pyproject.toml").write_text((_ROOT / "pyproject.toml").read_text())
    for package in ("dicom_node", "pipelines"):
        for file in (_ROOT / package).rglob("*.py"):
            copy = tmp_path / file.relative_to(_ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    sender = tmp_path / "dicom_node" / "delivery" / "sender.py"
    sender.write_text(f"{line}\n{sender.read_text(encoding='utf-8')}", encoding="utf-8")
    done = _lint_imports(tmp_path)
    assert done.returncode != 0
    assert "dicom_node.delivery" in done.stdout
