"""A node in a folder for the tests of its roles: configuration, a pipeline, received files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from pydicom import dcmwrite
from pydicom.dataset import FileDataset
from sqlalchemy import select

from dicom_node.config import NodeConfig, load_config
from dicom_node.inference.bundles import Bundle
from dicom_node.model.pipeline import PipelineSpec
from dicom_node.model.states import JobState
from dicom_node.serve.coordinator import Coordinator
from dicom_node.store import jobs
from dicom_node.store.database import Database
from dicom_node.store.jobs import JobResult, NewReport
from dicom_node.store.spool import Spool
from dicom_node.store.tables import AuditEvent, Job, Study
from tests.factories import ManualClock

QUIET = 60.0

Make = Callable[..., Coordinator]
"""Makes a coordinator, its configuration changed by section."""


def write_config(folder: Path, **sections: Any) -> Path:
    """Write a node.yaml with one route for knees; sections replace whole keys."""
    config: dict[str, Any] = {
        "node": {"ae_title": "AINODE", "host": "127.0.0.1", "data_dir": "data", "min_free_mb": 1},
        "peers": {
            "pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": 104},
            "xray": {"ae_title": "XRAY", "host": "127.0.0.1", "port": 104},
        },
        "accept_from": ["xray"],
        "settle": {"quiet_seconds": QUIET},
        "routes": [
            {
                "name": "knees",
                "when": {"modality": ["CR", "DX"], "body_part": "knee"},
                "run": ["tiny"],
                "send_to": ["pacs"],
            }
        ],
        **sections,
    }
    file = folder / "node.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    return file


def config_in(folder: Path, **sections: Any) -> NodeConfig:
    return load_config(write_config(folder, **sections))


def bundle(folder: Path, name: str = "tiny", weights: bytes = b"weights") -> Bundle:
    """A pipeline that takes any image; its weights are a few bytes."""
    code = {"value": "72696002", "scheme": "SCT", "meaning": "Knee"}
    spec = PipelineSpec.model_validate(
        {
            "title": "Tiny",
            "procedure": code,
            "anatomy": code,
            "input": {"kind": "radiograph"},
            "outputs": [],
            "statement": "{subject}",
            "series_number": 9100,
        }
    )
    file = folder / f"{name}.safetensors"
    file.write_bytes(weights)
    digest = hashlib.sha256(weights).hexdigest()
    return Bundle(name, folder, spec, "1.0.0", file, digest, demonstration=False)


def put_into_inbox(spool: Spool, dataset: FileDataset, sender: str = "XRAY") -> Path:
    """Put a received file where the receiver leaves it."""
    dataset.file_meta.SourceApplicationEntityTitle = sender
    count = len(list((spool.root / "inbox").iterdir()))
    file = spool.root / "inbox" / f"{dataset.SOPInstanceUID}.{count}.dcm"
    dcmwrite(file, dataset, enforce_file_format=True)
    return file


def events(database: Database, kind: str) -> list[Mapping[str, Any]]:
    """The data of the audit events of one kind, oldest first."""
    with database.read() as session:
        rows = session.scalars(
            select(AuditEvent).where(AuditEvent.kind == kind).order_by(AuditEvent.id)
        )
        return [row.data for row in rows]


def the_study(database: Database, uid: str) -> Study:
    with database.read() as session:
        return session.scalars(select(Study).where(Study.study_instance_uid == uid)).one()


def all_jobs(database: Database) -> list[Job]:
    with database.read() as session:
        return list(session.scalars(select(Job).order_by(Job.id)))


def settled(coordinator: Coordinator, clock: ManualClock) -> None:
    """Index what waits, let the quiet time pass, settle and route."""
    coordinator.settle_and_route()
    clock.move(QUIET)
    coordinator.settle_and_route()


def finish_a_job(database: Database, clock: ManualClock) -> None:
    """Let a worker take the next job and finish it with one report."""
    report = NewReport("SR", "1.2.840.10008.5.1.4.1.1.88.34", "2.25.1", "s/2.25.1.dcm", "h")
    lease = timedelta(seconds=30)
    with database.write() as session:
        job = jobs.claim(session, "w", clock.now(), lease)
        assert job is not None
        jobs.finish(session, job.id, "w", JobResult(JobState.DONE, [report], []), clock.now())
