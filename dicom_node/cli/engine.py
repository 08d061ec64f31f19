"""`pipelines selftest` and `tune`: whether a pipeline is as it was, and how it runs best here."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli import learning
from dicom_node.cli.options import DEFAULT_CONFIG, ConfigFile, console, database_of, say
from dicom_node.config import load_config
from dicom_node.errors import NodeError
from dicom_node.terminal import Listing, Row

_NamesOrNone = Annotated[list[str] | None, typer.Argument(help="Only these pipelines.")]


def selftest(
    names: _NamesOrNone = None,
    config: learning.ConfigOrNone = None,
    write: Annotated[
        bool, typer.Option(help="For who makes a pipeline: take what it answers as expected.")
    ] = False,
) -> None:
    """Run pipelines on their golden input and compare with what they must find.

    With a node.yaml the node follows: a pipeline that differs gets no jobs until it passes again.

    Exit status: 0 when all are as they were, 1 when one differs.

    Example: dicom-node pipelines selftest knee_kl_ensemble
    """
    from dicom_node.clock import SystemClock
    from dicom_node.inference.golden import golden_file, golden_of, written
    from dicom_node.inference.local import LocalExecutor
    from dicom_node.serve.selftest import record, tested

    bundles = learning.bundles_of(config)
    wanted = [learning.bundle_of(name, config, None) for name in names or bundles]
    where = load_config(Path(config)) if config else None
    executor = LocalExecutor(
        {item.name: item for item in wanted},
        device=where.inference.device[0] if where else "auto",
        threads=where.inference.threads_of_worker() if where else 0,
        deterministic=where.inference.deterministic if where else True,
        tunings=where.tuning_dir if where else None,
    )
    wrong = []
    for bundle in wanted:
        if write:
            spec = golden_of(bundle)
            if spec is not None:
                golden_file(bundle).write_text(written(executor.loaded(bundle.name), spec))
        differs, why = tested(executor, bundle.name)
        if where is not None and why is None:
            with database_of(where) as database:
                record(database, executor.algorithm(bundle.name), differs, SystemClock())
        if why is not None:
            say(f"{bundle.name}: {why.why}", mark="fail", style="red")
            say(f"      fix: {why.fix}")
            wrong.append(bundle.name)
        elif differs is None:
            say(f"{bundle.name}: no golden input for these weights", mark="-   ", style="yellow")
        elif differs:
            say(f"{bundle.name}: {'; '.join(differs)}", mark="fail", style="red")
            wrong.append(bundle.name)
        else:
            say(f"{bundle.name}: as it was", mark="ok  ", style="green")
    if wrong:
        raise NodeError(
            f"{len(wrong)} of the pipelines",
            f"{', '.join(wrong)} did not pass",
            "look for what has changed: weights, libraries, device; `pipelines tune` chooses anew",
        )


def tune(
    name: learning.Name,
    config: ConfigFile = DEFAULT_CONFIG,
    rounds: Annotated[int, typer.Option(min=1, help="Studies with each option.")] = 5,
    images: Annotated[
        Path | None, typer.Option(help="Folder with a study's files; absent: a simulated one.")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take a choice back.")] = False,
) -> None:
    """Measure how a pipeline runs fastest here, and let the node run it so.

    Only what leaves its findings unchanged (a probability by 0.01, a measurement by 0.5 %) is
    chosen. The choice holds for this version, these weights, this processor or GPU, and this
    PyTorch; the node's workers take it at their next start.

    Example: dicom-node pipelines tune knee_kl_ensemble
    """
    from dicom_node.serve.supervisor import CALM

    # before PyTorch is loaded: it is measured as the workers run it
    os.environ.update({**CALM, **os.environ})
    from dicom_node.demo.selftest import simulated_job
    from dicom_node.inference.devices import device_of, make_deterministic
    from dicom_node.inference.tuner import best, job_of, standard, trials
    from dicom_node.inference.tuning import forget_tuning, save_tuning

    where = load_config(config)
    bundle = learning.bundle_of(name, str(config), None)
    if undo:
        there = forget_tuning(where.tuning_dir, name)
        say("the defaults hold from the next start on" if there else "nothing was chosen for it")
        return
    device = device_of(where.inference.device[0])
    make_deterministic(where.inference.threads_of_worker(), strict=where.inference.deterministic)
    with contextlib.ExitStack() as stack:
        job = job_of(images) if images else stack.enter_context(simulated_job(bundle))[0]
        show = stack.enter_context(learning.progress(f"tuning {name}"))
        found = trials(bundle, device, job, rounds, show)
    chosen = best(found)
    rows = []
    for trial in found:
        option = "channels last" if trial.tuning.channels_last else "as PyTorch has it"
        option += ", folded" if trial.tuning.folded else ""
        mark = "chosen" if trial is chosen else ""
        share = f"{trial.share_of(standard(found)):.2f}"
        same = "; ".join(trial.differs) or "the same findings"
        cells = (option, trial.tuning.precision, f"{trial.seconds:.3f} s", share, mark)
        rows.append(Row(cells, [same]))
    console.print(Listing(("memory", "precision", "a study", "of the default", ""), rows))
    measured = {"rounds": rounds, "options": [trial.as_plain() for trial in found]}
    file = save_tuning(where.tuning_dir, bundle, device, chosen.tuning, measured)
    say(f"written to {file}; the workers take it at their next start, `--undo` takes it back")


COMMANDS = (selftest, tune)
