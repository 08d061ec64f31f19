"""`pipelines list` and `check`: which there are, and whether they run.

The other commands are in `bundles` (add, trust) , `engine` (selftest, tune) and
`learning` (evaluate, train, install).
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from dicom_node.cli import bundles as adding
from dicom_node.cli import engine, learning
from dicom_node.cli.options import AsJson, console, print_json, say
from dicom_node.errors import ConfigError, NodeError
from dicom_node.inference.bundles import Bundle
from dicom_node.model.wording import in_words
from dicom_node.terminal import Listing, Row

app = typer.Typer(help="The pipelines of this node.", no_args_is_help=True)
for command in (*adding.COMMANDS, *engine.COMMANDS, *learning.COMMANDS):
    app.command()(command)


@app.command("list")
def list_(config: learning.ConfigOrNone = None, as_json: AsJson = False) -> None:
    """List the pipelines with version, weights and the images they take.

    Example: dicom-node pipelines list
    """
    bundles = learning.bundles_of(config)
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
    config: learning.ConfigOrNone = None,
) -> None:
    """Load pipelines, verify their weights and run them on simulated input.

    Exit status: 0 when all of them run, 1 when one does not.

    Example: dicom-node pipelines check knee_kl_ensemble
    """
    from dicom_node.demo.selftest import Probe, run_on_simulated_input

    bundles = learning.bundles_of(config)
    if name is not None and name not in bundles:
        raise ConfigError(f"pipeline {name}", "there is none", f"known: {', '.join(bundles)}")
    wrong = []
    for item in bundles.values() if name is None else [bundles[name]]:
        try:
            item.verify_weights()
            with Probe() as probe:
                seen = run_on_simulated_input(item)
        except NodeError as error:
            wrong.append(item.name)
            say(f"{item.name} {item.version}: {error.why}", mark="fail", style="red")
            say(f"      fix: {error.fix}")
        else:
            say(f"{item.name} {item.version}: {seen}", mark="ok  ", style="green")
            for line in (*probe.lines(), *_own_parts(item)):
                say(f"      {line}")
    if wrong:
        raise NodeError(
            f"{len(wrong)} of the pipelines",
            f"{', '.join(wrong)} cannot run",
            "see the lines above",
        )


def _own_parts(bundle: Bundle) -> list[str]:
    """Say of a site's own bundle which of its keys are used, and what it is trusted with."""
    from dicom_node.inference.bundles import BUILT_IN
    from dicom_node.inference.inspection import inspect

    if bundle.folder.parent == BUILT_IN:
        return []
    seen = inspect(bundle)
    lines = [f"keys used: {', '.join(seen.used)}"]
    if seen.ignored:
        lines.append(f"keys left to MONAI's own runner: {', '.join(seen.ignored)}")
    return lines + [f"trusted with: {place}" for place in seen.code]


def _row(bundle: Bundle) -> Row:
    weights = Text(bundle.weights_sha256[:12] or "none yet")
    if bundle.unfilled:
        weights.append(" dicom.yaml not filled in", style="red")
    if bundle.demonstration:
        weights.append(" demonstration", style="yellow")
    selector = bundle.spec.input
    few = f"; at least {selector.min_instances} a series" if selector.min_instances > 1 else ""
    takes = f"takes each {selector.kind}: {in_words(selector.when)}{few}"
    return Row((bundle.name, bundle.version, weights), [bundle.spec.title, takes])
