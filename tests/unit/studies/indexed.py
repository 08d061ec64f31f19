"""What an indexer has made of files: their rows and their places."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import FileDataset
from sqlalchemy import select

from dicom_node.store.database import Database
from dicom_node.store.spool import Spool
from dicom_node.store.tables import Instance


def place_of(image: FileDataset) -> str:
    uids = (image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID)
    return f"studies/{'/'.join(map(str, uids))}.dcm"


def instances(database: Database) -> list[Instance]:
    with database.read() as session:
        return list(session.scalars(select(Instance).order_by(Instance.id)))


def stored(spool: Spool, folder: str = "studies") -> list[Path]:
    return sorted(path for path in (spool.root / folder).rglob("*") if path.is_file())
