"""`send` and `demo`: DICOM files to a peer, and the node shown at work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from dicom_node.cli.options import DEFAULT_CONFIG, ConfigFile, console, known_peer, say
from dicom_node.config import load_config
from dicom_node.delivery import ScuSettings, Verdict, destination_for
from dicom_node.errors import NodeError


def send(
    folder: Annotated[Path, typer.Argument(help="A folder of DICOM files, or one file.")],
    peer: Annotated[str, typer.Argument(help="The peer's name in node.yaml.")],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Send DICOM files to a peer, as they are; decompressed where it takes them only so.

    Exit status: 0 when the peer took all of them, else 1.

    Example: dicom-node send ./study pacs
    """
    from dicom_node.delivery.folder import files_in, send_files

    loaded = load_config(config)
    known_peer(loaded, peer)
    found = files_in(folder)
    refused = 0
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"to {peer}", total=len(found.files))
        scu = ScuSettings(loaded.node.ae_title[0])
        destination = destination_for(scu, loaded.peers[peer])
        for file, answer in send_files(destination, found.files):
            progress.advance(task)
            if answer.verdict is not Verdict.SENT:
                refused += 1
                say(f"{file}: {answer.text}", mark="not taken:", style="red")
            elif "warning" in answer.text.lower():
                say(f"{file}: {answer.text}", mark="taken with a warning:", style="yellow")
    for file in found.not_dicom:
        say(f"{file}: no DICOM file, not sent", mark="left out:", style="yellow")
    say(f"{len(found.files) - refused} of {len(found.files)} files sent to {peer}")
    if refused:
        raise NodeError(
            f"{refused} of {len(found.files)} files",
            f"{peer} did not take them",
            "the lines above say why; `dicom-node check` tries the peer",
        )


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
