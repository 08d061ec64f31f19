"""Options that several commands share."""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

console = Console()

ConfigFile = Annotated[
    Path,
    typer.Option(
        "--config", "-c", envvar="DICOM_NODE_CONFIG", help="The node's configuration file."
    ),
]
DEFAULT_CONFIG = Path("node.yaml")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def print_json(value: Any) -> None:
    """Print plain data and dataclasses as JSON."""

    def plain(item: Any) -> Any:
        if is_dataclass(item) and not isinstance(item, type):
            return asdict(item)
        if isinstance(item, datetime):
            return item.isoformat()
        return str(item)

    typer.echo(json.dumps(value, default=plain, indent=2))
