"""`route --explain`: what would run on a study, and why, condition by condition."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydicom import dcmread

from dicom_node.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile, print_json
from dicom_node.config import NodeConfig
from dicom_node.delivery.folder import files_in
from dicom_node.errors import NodeError
from dicom_node.model.identifiers import is_valid_uid
from dicom_node.model.instances import InstanceFacts, facts_of


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
    for study_uid, facts in _studies(explain, loaded, sender).items():
        decision = decide(loaded.routes, specs, facts, loaded.peers)
        explained.append({"study": study_uid, **decision_json(decision)})
        if not as_json:
            typer.echo(f"study {study_uid or '(no Study Instance UID)'}")
            typer.echo(as_text(decision) + "\n")
    if as_json:
        print_json(explained)


def _studies(what: str, config: NodeConfig, sender: str) -> dict[str, list[InstanceFacts]]:
    path = Path(what)
    if not path.exists() and is_valid_uid(what):
        return {what: _indexed(what, config)}
    studies: dict[str, list[InstanceFacts]] = {}
    for file in files_in(path).files:
        header = dcmread(file, stop_before_pixels=True)
        facts = facts_of(header, str(header.file_meta.TransferSyntaxUID), sender)
        studies.setdefault(facts.study_instance_uid, []).append(facts)
    return studies


def _indexed(study_uid: str, config: NodeConfig) -> list[InstanceFacts]:
    from sqlalchemy import select

    from dicom_node.store import index
    from dicom_node.store.database import Database
    from dicom_node.store.tables import Study

    with Database(config.database_url).read() as session:
        study = session.scalar(select(Study).where(Study.study_instance_uid == study_uid))
        if study is None:
            raise NodeError(
                f"study {study_uid}", "it is not in the index", "see `dicom-node status`"
            )
        return index.facts_of_study(session, study)


COMMANDS = (route,)
