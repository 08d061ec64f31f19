"""Draws who imports whom: `python -m tests.import_drawing` rewrites docs/architecture.md."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import grimp

PAGE: Final = Path(__file__).parents[1] / "docs" / "architecture.md"
_BLOCK: Final = re.compile(r"```mermaid\n.*?```", re.DOTALL)
_SHARED: Final = frozenset(
    {
        "model",
        "errors",
        "clock",
        "logs",
        "requestor",
        "secret",
        "syslog",
        "__init__",
        "__main__",
    }
)
"""What nearly every package imports; arrows to it would hide the others."""


def arrows() -> set[tuple[str, str]]:
    """Return (importer, imported) for the packages directly below `dicom_node`."""
    graph = grimp.build_graph("dicom_node")
    return {
        (here, there)
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
        if (here := _package(module)) != (there := _package(imported))
        and not {here, there} & _SHARED
    }


def drawing(found: Iterable[tuple[str, str]]) -> str:
    """Return the arrows as a Mermaid flow chart, from the importer down to the imported."""
    lines = [f"    {here} --> {there}" for here, there in sorted(found)]
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```"])


def redrawn(page: str) -> str:
    """Return the page with its drawing replaced by the present one."""
    return _BLOCK.sub(lambda _: drawing(arrows()), page, count=1)


def _package(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


if __name__ == "__main__":
    PAGE.write_text(redrawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
