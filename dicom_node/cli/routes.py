"""`route --explain`: what would run on a study, and why, condition by condition."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

import typer
from pydicom.uid import MediaStorageDirectoryStorage
from rich.console import Console
from rich.markup import escape
from rich.progress import track

from dicom_node.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    console,
    database_of,
    print_json,
)
from dicom_node.config import NodeConfig
from dicom_node.delivery.folder import files_in
from dicom_node.errors import NodeError
from dicom_node.model.identifiers import is_valid_uid
from dicom_node.model.instances import InstanceFacts
from dicom_node.serve.trying import indexed_facts, read_facts

_SLOW: Final = 200
"""Files; more take a few seconds to read."""
_COLOURS: Final = (
    ("    yes  ", "green"),
    ("    no   ", "red"),
    ("         ", "dim"),
    ("no pipeline runs", "bold yellow"),
    ("study ", "bold"),
    ("route ", "bold"),
    ("pipeline ", "bold"),
)


def route(
    explain: Annotated[
        str,
        typer.Option("--explain", help="A DICOM file, a folder of them, or a Study Instance UID."),
    ],
    config: ConfigFile = DEFAULT_CONFIG,
    sender: Annotated[str, typer.Option(help="As if sent by this AE title (files only).")] = "",
    as_json: AsJson = False,
) -> None:
    """Explain the routing of a study without running anything.

    Example: dicom-node route --explain ./study      dicom-node route --explain 1.2.840.113619.2
    """
    from dicom_node.routing import decide
    from dicom_node.routing.explain import as_json as decision_json
    from dicom_node.routing.explain import as_text
    from dicom_node.serve.roles import load_all

    loaded, bundles = load_all(config)
    specs = {name: bundle.spec for name, bundle in bundles.items()}
    explained = []
    for number, (study_uid, facts) in enumerate(_studies(explain, loaded, sender).items()):
        decision = decide(loaded.routes, specs, facts, loaded.peers)
        explained.append({"study": study_uid, **decision_json(decision)})
        if not as_json:
            _print("\n\n" if number else "")
            name = study_uid if is_valid_uid(study_uid) else "without a valid Study Instance UID"
            _print(f"study {name}\n")
            _print(as_text(decision) + "\n")
    if as_json:
        print_json(explained)


def _print(text: str) -> None:
    """Print what `as_text` made, on a terminal with its outcomes in colour."""
    for line in text.splitlines(keepends=True):
        colour = next((colour for start, colour in _COLOURS if line.startswith(start)), None)
        shown = escape(line) if colour is None else f"[{colour}]{escape(line)}[/]"
        console.print(shown, end="", soft_wrap=True, highlight=False, emoji=False)


def _studies(what: str, config: NodeConfig, sender: str) -> dict[str, list[InstanceFacts]]:
    path = Path(what)
    if not path.exists() and is_valid_uid(what):
        with database_of(config) as database:
            return {what: indexed_facts(database, what)}
    studies: dict[str, list[InstanceFacts]] = {}
    unread = 0
    for file in _progress(_files(path)):
        facts = read_facts(file, sender)
        if facts is None:
            unread += 1
        elif facts.sop_class_uid != MediaStorageDirectoryStorage:
            studies.setdefault(facts.study_instance_uid, []).append(facts)
    if not studies:
        raise NodeError(what, "none of its DICOM files has a header that can be read", _FIX)
    if unread:
        typer.echo(f"{unread} files left out: their headers cannot be read", err=True)
    return studies


_FIX: Final = "name a DICOM file, a folder of them, or the UID of a study that was received"


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise NodeError(str(path), "there is no such file or folder", _FIX)
    found = files_in(path)
    if found.not_dicom:
        typer.echo(f"{len(found.not_dicom)} files left out: they are not DICOM", err=True)
    return list(found.files)


def _progress(files: list[Path]) -> Iterable[Path]:
    terminal = Console(stderr=True)
    if len(files) < _SLOW or not terminal.is_terminal:
        return files
    return track(files, "reading headers", console=terminal, transient=True)


COMMANDS = (route,)
