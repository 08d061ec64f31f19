"""`pipelines train`, `evaluate` and `install`: a site's own data, a site's own weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dicom_node.cli.options import console, say, text_of
from dicom_node.config import load_config
from dicom_node.errors import ConfigError
from dicom_node.inference.bundles import Bundle, find_bundles, load_bundle
from dicom_node.terminal import Listing, Row

Name = Annotated[str, typer.Argument(help="The pipeline.")]
ConfigOrNone = Annotated[
    str | None,
    typer.Option("--config", "-c", envvar="DICOM_NODE_CONFIG", help="For a site's own pipelines."),
]
Data = Annotated[Path, typer.Option(help="Folder with labels.csv and the images.")]
Weights = Annotated[
    Path | None, typer.Option(help="safetensors; absent: those that the node would use.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[int, typer.Option(min=0, help="CPU threads; 0: as PyTorch chooses.")]


def evaluate(
    name: Name,
    data: Data,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for charts (PNG).")] = None,
    split: Annotated[str, typer.Option(help="Rows of this split; all: every row.")] = "test",
    weights: Weights = None,
    config: ConfigOrNone = None,
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Measure a pipeline on labelled images, with 95 % intervals.

    The folder holds labels.csv (file or sop_instance_uid, the label, maybe split, side, patient).

    Example: dicom-node pipelines evaluate knee_kl_ensemble --data knees --json figures.json
    """
    from dicom_node.inference.devices import device_of
    from dicom_node.store.files import write_durably
    from dicom_node.training.contract import Evaluation
    from dicom_node.training.entries import evaluator_of, extras

    bundle = bundle_of(name, config, weights)
    bundle.verify_weights()
    _use(threads)
    with progress(f"evaluating {name}") as show, extras(f"evaluation of {name}"):
        evaluator = evaluator_of(bundle)
        asked = Evaluation(bundle, data, split, output, device_of(device), show)
        figures: dict[str, Any] = {
            "pipeline": name,
            "version": bundle.version,
            "weights_sha256": bundle.weights_sha256,
            "split": split,
            **evaluator(asked),
        }
    heading, *lines = figures["table"]
    console.print(Listing(heading, [Row(line) for line in lines]))
    for reason, count in figures.get("not_evaluated", {}).get("reasons", {}).items():
        say(f"not evaluated, {count} times: {reason}")
    if json_ is not None:
        write_durably(json_.absolute(), json.dumps(figures, indent=1).encode())
    for chart in figures.get("charts", []):
        say(f"wrote {(output or Path()) / chart}")


def train(
    name: Name,
    data: Data,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the run; absent: NAME-training.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")] = False,
    seed: Annotated[int | None, typer.Option(help="Absent: that of configs/train.yaml.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of configs/train.yaml."),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=1, help="End the schedule after so long.")
    ] = None,
    weights: Weights = None,
    config: ConfigOrNone = None,
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Train a pipeline's network on labelled images: checkpoints, log, weights, calibration.

    The table's column split says train and val; what else it says is left for the evaluation.

    Example: dicom-node pipelines train knee_kl_ensemble --data knees --output run1
    """
    from dicom_node.inference.devices import device_of
    from dicom_node.training import run
    from dicom_node.training.contract import Training
    from dicom_node.training.entries import settings_of, trainer_of
    from dicom_node.training.journal import Journal

    bundle = bundle_of(name, config, weights)
    settings = settings_of(bundle, set_ or [], seed)
    trainer = trainer_of(bundle)
    chosen = device_of(device)
    _use(threads)
    folder = (output or Path(f"{name}-training")).absolute()
    run.begin(folder, name, resume)
    with progress(f"training {name}") as show, Journal(folder, show, say) as journal:
        asked = Training(bundle, data, folder, settings, resume, seconds, chosen, journal)
        done = run.train(trainer, asked)
    say(f"weights: {done.weights}", mark="ok  ", style="green")
    for key, value in done.figures.items():
        say(f"      {key} {value:.4f}")
    # not by the console: a terminal's line breaks would be copied with the command
    tested = data
    if done.on_every_row:
        if done.figures:
            say("      these figures are cross-validated")
        say("      all of the data was trained on: measure the weights on a folder OTHER")
        tested = Path("OTHER")
    typer.echo(
        f"next: dicom-node pipelines evaluate {name} --data {tested} --weights {done.weights}"
    )
    typer.echo(f"then: dicom-node pipelines install {name} {done.weights}")


def install(
    name: Name,
    file: Annotated[Path, typer.Argument(help="The weights, safetensors.")],
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Folder; absent: where node.yaml's weights are."),
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Absent: the next of site-1, site-2 …")
    ] = None,
    card: Annotated[
        Path | None, typer.Option(help="Model card; absent: one to be filled in.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="What `evaluate --json` wrote, for the card.")
    ] = None,
    config: ConfigOrNone = None,
) -> None:
    """Check weights, run them once, and put them with version, hash and card where they are used.

    Example: dicom-node pipelines install knee_kl_ensemble weights.safetensors --config node.yaml
    """
    from dicom_node.demo.selftest import run_on_simulated_input
    from dicom_node.training import install as installing

    checked, content = installing.check_weights(bundle_of(name, config), file)
    folder = _folder(name, to, config)
    known = None if figures is None else installing.read_figures(figures, checked.weights_sha256)
    text = None if card is None else text_of(card)
    say(run_on_simulated_input(checked), mark="ok  ", style="green")
    done = installing.install(checked, content, folder, version, text, known)
    how = "is there already" if done.already else "installed"
    say(f"{name} {done.version} {how}: {done.weights} (SHA-256 {done.sha256[:12]})")
    if text is None:
        say(f"fill in its card: {done.card}")
    say("put into node.yaml, then restart the node:")
    typer.echo(installing.node_yaml_lines(name, done.weights).rstrip())


COMMANDS = (evaluate, train, install)


def bundles_of(config: str | None) -> Mapping[str, Bundle]:
    """Return the pipelines of a node.yaml; without one, those that are built in."""
    from dicom_node.serve import roles

    return roles.bundles_of(load_config(Path(config))) if config else find_bundles()


def bundle_of(name: str, config: str | None, weights: Path | None = None) -> Bundle:
    """Return one of a node's pipelines, with other weights if they are given.

    Raises:
        ConfigError: There is none of that name.
    """
    bundles = bundles_of(config)
    if name not in bundles:
        raise ConfigError(f"pipeline {name}", "there is none", f"known: {', '.join(bundles)}")
    return bundles[name] if weights is None else load_bundle(bundles[name].folder, weights)


def _folder(name: str, to: Path | None, config: str | None) -> Path:
    """Where a site's weights of a pipeline are kept."""
    if to is not None:
        return to.absolute()
    if config is None:
        raise ConfigError(
            f"weights of {name}",
            "nothing says where the site keeps them",
            "name the folder with --to, or node.yaml with --config",
        )
    node = load_config(Path(config))
    section = node.pipelines.get(name)
    if section is not None and section.weights is not None:
        return section.weights.parent.absolute()
    return (node.node.data_dir / "weights" / name).absolute()


def _use(threads: int) -> None:
    from dicom_node.training.allocation import keep_freed_memory

    keep_freed_memory()
    if threads:
        import torch

        torch.set_num_threads(threads)


@contextmanager
def progress(what: str) -> Iterator[Callable[[float, str], None]]:
    """A bar on a terminal; nothing elsewhere."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[words]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=1.0, words="")
        yield lambda share, words: bar.update(task, completed=share, words=words)
