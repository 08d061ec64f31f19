"""`pipelines add` and `trust`: a MONAI bundle becomes a pipeline of this node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.learning import ConfigOrNone, Name, bundle_of
from dicom_node.cli.options import say
from dicom_node.config import load_config
from dicom_node.errors import ConfigError
from dicom_node.inference.bundles import load_bundle


def add(
    source: Annotated[Path, typer.Argument(metavar="PATH|ZIP", help="The bundle.")],
    name: Annotated[
        str | None, typer.Option(help="The pipeline's; absent: that of the bundle's folder.")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Folder; absent: the first of node.yaml's pipelines_path."),
    ] = None,
    config: ConfigOrNone = None,
) -> None:
    """Copy a MONAI bundle to a site's pipelines and propose its dicom.yaml.

    Nothing of the bundle is run. A bundle that has a configs/dicom.yaml keeps it.

    Example: dicom-node pipelines add spleen_ct_segmentation.zip --config node.yaml
    """
    from dicom_node.inference import adding
    from dicom_node.inference.inspection import inspect

    added = adding.add(source, _folder(to, config), name)
    bundle = load_bundle(added.folder)
    say(f"added {bundle.name} {bundle.version}: {added.folder}", mark="ok  ", style="green")
    if added.proposed:
        say("its configs/dicom.yaml is a proposal: check every line")
    for place in inspect(bundle).code:
        say(f"needs trust: {place}", style="yellow")
    # not by the console: a terminal's line breaks would be copied with the commands
    for step in adding.next_steps(added, bundle.unfilled):
        typer.echo(f"next: {step}")


def trust(
    name: Name,
    revoke: Annotated[bool, typer.Option("--revoke", help="Take the trust away.")] = False,
    config: ConfigOrNone = None,
) -> None:
    """Let a bundle run its own code, as its files are now; a changed file ends it.

    Read the bundle's files first: its code runs with the rights of the node.

    Example: dicom-node pipelines trust lung_nodule_ct_detection --config node.yaml
    """
    from dicom_node.inference import trust as trusting
    from dicom_node.inference.bundles import BUILT_IN
    from dicom_node.inference.inspection import inspect

    bundle = bundle_of(name, config)
    if bundle.folder.parent == BUILT_IN:
        say(f"{name} is built in, and needs none")
        return
    file = bundle.folder.parent / trusting.TRUSTED
    if revoke:
        had = trusting.distrust(bundle.folder)
        say(f"{name} is no longer trusted ({file})" if had else f"{name} was not trusted")
        return
    for place in inspect(bundle).code:
        say(f"will run: {place}")
    sha256 = trusting.trust(bundle.folder)
    say(f"{name} is trusted as it is: SHA-256 {sha256[:12]} in {file}", mark="ok  ", style="green")


COMMANDS = (add, trust)


def _folder(to: Path | None, config: str | None) -> Path:
    if to is not None:
        return to.absolute()
    folders = load_config(Path(config)).pipelines_path if config else []
    if not folders:
        raise ConfigError(
            "the folder of pipelines",
            "no node.yaml names one in pipelines_path",
            "name the folder with --to, or node.yaml with --config",
        )
    return folders[0].absolute()
