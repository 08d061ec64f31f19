"""What the README shows works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_node.cli.app import app
from dicom_node.config import load_config

_ROOT = Path(__file__).parents[2]
_TEXT = (_ROOT / "README.md").read_text(encoding="utf-8")
_COMMANDS = sorted(set(re.findall(r"dicom-node ((?:[a-z]+ ?)+)", _TEXT)))


def _block(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", _TEXT, re.DOTALL)


def test_the_configuration_is_ten_lines_and_loads(tmp_path: Path) -> None:
    (yaml,) = _block("yaml")
    assert len(yaml.splitlines()) <= 10
    (tmp_path / "node.yaml").write_text(yaml)
    config = load_config(tmp_path / "node.yaml")
    assert config.node.ae_title == ["AINODE"]
    assert config.routes[0].run == ["knee_kl_ensemble"]


@pytest.mark.parametrize("command", [c.strip() for c in _COMMANDS])
def test_every_command_exists_and_has_an_example(command: str) -> None:
    shown = CliRunner().invoke(app, [*command.split(), "--help"])
    assert shown.exit_code == 0, shown.output
    assert "Example" in shown.output


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", _TEXT)
    assert links
    missing = [link for link in links if "://" not in link and not (_ROOT / link).exists()]
    assert missing == []


def test_every_built_in_pipeline_is_listed() -> None:
    from dicom_node.inference.bundles import find_bundles

    for name in find_bundles():
        assert f"`{name}`" in _TEXT


def test_the_makefile_has_the_two_commands() -> None:
    makefile = (_ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z]+)", _TEXT):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
