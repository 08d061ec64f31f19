"""`send` and `demo`: DICOM files to a peer, and the node shown at work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from dicom_node.cli.options import DEFAULT_CONFIG, ConfigFile, console
from dicom_node.config import load_config
from dicom_node.delivery import ScuSettings, Verdict
from dicom_node.errors import ConfigError, NodeError


def send(
    folder: Annotated[Path, typer.Argument(help="A folder of DICOM files, or one file.")],
    peer: Annotated[str, typer.Argument(help="The peer's name in node.yaml.")],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Send DICOM files to a peer, as they are.

    Example: dicom-node send ./study pacs
    """
    from dicom_node.delivery.folder import files_in, send_files

    loaded = load_config(config)
    if peer not in loaded.peers:
        raise ConfigError(
            f"peer {peer}", "node.yaml has no such peer", f"known: {', '.join(loaded.peers)}"
        )
    found = files_in(folder)
    refused = 0
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"to {peer}", total=len(found.files))
        scu = ScuSettings(loaded.node.ae_title[0])
        for file, answer in send_files(scu, loaded.peers[peer], found.files):
            progress.advance(task)
            if answer.verdict is not Verdict.SENT:
                refused += 1
                console.print(f"{file}: {answer.text}")
    for file in found.not_dicom:
        console.print(f"{file}: not a DICOM file, not sent")
    console.print(f"{len(found.files) - refused} of {len(found.files)} files sent to {peer}")
    if refused:
        raise NodeError(f"{refused} files", "the peer did not take them", "see the lines above")


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the node and the PACS running.")
    ] = False,
    images: Annotated[
        Path | None, typer.Option(help="Send the DICOM files of this folder instead of phantoms.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("demo-output"),
) -> None:
    """Show the node at work: phantom studies in, structured reports and heatmaps out.

    Example: dicom-node demo --keep
    """
    from dicom_node.demo.show import run_demo

    raise typer.Exit(run_demo(output, images=images, keep=keep, console=console))


COMMANDS = (send, demo)
