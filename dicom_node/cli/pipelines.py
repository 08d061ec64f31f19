"""`pipelines list` and `pipelines check`: which pipelines there are, and whether they run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer
from rich.text import Text

from dicom_node.cli.options import AsJson, console, print_json, say
from dicom_node.config import load_config
from dicom_node.errors import ConfigError, NodeError
from dicom_node.inference.bundles import Bundle, find_bundles
from dicom_node.model.wording import in_words
from dicom_node.terminal import Listing, Row

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
    console.print(Listing(("pipeline", "version", "weights"), [_row(b) for b in bundles.values()]))


@app.command()
def check(
    name: Annotated[str | None, typer.Argument(help="Only this pipeline.")] = None,
    config: ConfigOrNone = None,
) -> None:
    """Load pipelines, verify their weights and run them on simulated input.

    Exit status: 0 when all of them run, 1 when one does not.

    Example: dicom-node pipelines check knee_kl_ensemble
    """
    from dicom_node.demo.selftest import run_on_simulated_input

    bundles = _bundles(config)
    if name is not None and name not in bundles:
        raise ConfigError(f"pipeline {name}", "there is none", f"known: {', '.join(bundles)}")
    wrong = []
    for item in bundles.values() if name is None else [bundles[name]]:
        try:
            item.verify_weights()
            seen = run_on_simulated_input(item)
        except NodeError as error:
            wrong.append(item.name)
            say(f"{item.name} {item.version}: {error.why}", mark="fail", style="red")
            say(f"      fix: {error.fix}")
        else:
            say(f"{item.name} {item.version}: {seen}", mark="ok  ", style="green")
    if wrong:
        raise NodeError(
            f"{len(wrong)} of the pipelines",
            f"{', '.join(wrong)} cannot run",
            "see the lines above",
        )


def _row(bundle: Bundle) -> Row:
    weights = Text(bundle.weights_sha256[:12] or "none yet")
    if bundle.demonstration:
        weights.append(" demonstration", style="yellow")
    selector = bundle.spec.input
    few = f"; at least {selector.min_instances} a series" if selector.min_instances > 1 else ""
    takes = f"takes each {selector.kind}: {in_words(selector.when)}{few}"
    return Row((bundle.name, bundle.version, weights), [bundle.spec.title, takes])


def _bundles(config: str | None) -> Mapping[str, Bundle]:
    from pathlib import Path

    from dicom_node.serve.roles import bundles_of

    return bundles_of(load_config(Path(config))) if config else find_bundles()
