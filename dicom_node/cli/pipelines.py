"""`pipelines list` and `pipelines check`: which pipelines there are, and whether they run."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from dicom_node.cli.options import AsJson, console, print_json
from dicom_node.config import load_config
from dicom_node.errors import ConfigError

app = typer.Typer(help="The pipelines of this node.", no_args_is_help=True)

ConfigOrNone = Annotated[
    str | None,
    typer.Option("--config", "-c", envvar="DICOM_NODE_CONFIG", help="For a site's own pipelines."),
]


@app.command("list")
def list_(config: ConfigOrNone = None, as_json: AsJson = False) -> None:
    """List the pipelines with version, weights and the images they take.

    Example: dicom-node pipelines list
    """
    bundles = _bundles(config)
    if as_json:
        print_json(
            [
                {
                    "name": item.name,
                    "title": item.spec.title,
                    "version": item.version,
                    "weights_sha256": item.weights_sha256,
                    "demonstration": item.demonstration,
                    "input": item.spec.input.model_dump(mode="json", exclude_defaults=True),
                }
                for item in bundles.values()
            ]
        )
        return
    table = Table("pipeline", "title", "version", "weights", "takes")
    for item in bundles.values():
        marked = " [yellow]demonstration[/]" if item.demonstration else ""
        takes = item.spec.input.when.model_dump(
            mode="json", exclude_none=True, exclude_defaults=True
        )
        table.add_row(
            item.name,
            item.spec.title,
            item.version,
            item.weights_sha256[:12] + marked,
            f"{item.spec.input.kind}: {takes}",
        )
    console.print(table)


@app.command()
def check(
    name: Annotated[str | None, typer.Argument(help="Only this pipeline.")] = None,
    config: ConfigOrNone = None,
) -> None:
    """Load pipelines, verify their weights and run them on simulated input.

    Example: dicom-node pipelines check knee_kl_ensemble
    """
    from dicom_node.demo.selftest import run_on_simulated_input

    bundles = _bundles(config)
    if name is not None and name not in bundles:
        raise ConfigError(f"pipeline {name}", "there is none", f"known: {', '.join(bundles)}")
    for item in bundles.values() if name is None else [bundles[name]]:
        item.verify_weights()
        seen = run_on_simulated_input(item)
        console.print(f"[green]ok[/]  [bold]{item.name}[/] {item.version}: {seen}")


def _bundles(config: str | None):  # type: ignore[no-untyped-def]
    from pathlib import Path

    from dicom_node.inference.bundles import find_bundles
    from dicom_node.serve.roles import bundles_of

    return bundles_of(load_config(Path(config))) if config else find_bundles()
