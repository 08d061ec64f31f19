"""Try a study: what the routes would do with it, condition by condition; nothing is run or kept."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.uid import MediaStorageDirectoryStorage

from dicom_node.config import NodeConfig
from dicom_node.errors import NodeError
from dicom_node.inference.bundles import Bundle
from dicom_node.model.decisions import Decision
from dicom_node.model.instances import InstanceFacts, facts_of
from dicom_node.model.unreadable import UNREADABLE
from dicom_node.routing import decide
from dicom_node.store import routed, whole
from dicom_node.store.database import Database


@dataclass(frozen=True, slots=True)
class Tried:
    """What the routes decide about one study."""

    study_uid: str
    images: int
    decision: Decision


def read_facts(file: Path | BinaryIO, sender: str) -> InstanceFacts | None:
    """Read a file's header; None: it has none that can be read.

    Args:
        sender: As if sent by this AE title.
    """
    with warnings.catch_warnings():
        # pydicom's warnings may quote values, and those may be the patient's
        warnings.simplefilter("ignore")
        try:
            header = dcmread(file, stop_before_pixels=True)
            return facts_of(header, str(header.file_meta.TransferSyntaxUID), sender)
        except UNREADABLE:
            return None


def try_facts(
    config: NodeConfig, bundles: Mapping[str, Bundle], facts: Iterable[InstanceFacts]
) -> list[Tried]:
    """Let the routes decide about images, study by study."""
    studies: dict[str, list[InstanceFacts]] = {}
    for item in facts:
        if item.sop_class_uid != MediaStorageDirectoryStorage:
            studies.setdefault(item.study_instance_uid, []).append(item)
    specs = {name: bundle.spec for name, bundle in bundles.items()}
    return [
        Tried(uid, len(items), decide(config.routes, specs, items, config.peers))
        for uid, items in studies.items()
    ]


def try_study(
    config: NodeConfig, bundles: Mapping[str, Bundle], database: Database, study_uid: str
) -> Tried:
    """Let the routes decide about a study that was received.

    Raises:
        NodeError: It is not in the index.
    """
    return try_facts(config, bundles, indexed_facts(database, study_uid))[0]


def indexed_facts(database: Database, study_uid: str) -> list[InstanceFacts]:
    """Return the facts of a study that was received, those of purged images included.

    Raises:
        NodeError: It is not in the index.
    """
    with database.read() as session:
        study_id = routed.study_id_of(session, study_uid)
        facts = (
            whole.facts_of(session, study_id, study_uid, purged=True)
            if study_id is not None
            else []
        )
    if not facts:
        raise NodeError(
            f"study {study_uid}",
            "it is not in the index",
            "name a study that was received, or give its files",
        )
    return facts
