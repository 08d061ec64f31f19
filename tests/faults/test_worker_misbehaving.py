"""Pipelines that hang, crash, eat all memory or talk nonsense: each ends as designed.

One node with two workers; meanwhile other studies are analysed as ever.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from sqlalchemy import select

from dicom_node.demo.orthanc import Orthanc
from dicom_node.store import overview
from dicom_node.store.tables import AuditEvent, Job, Study
from tests.factories import radiograph
from tests.faults import misbehaving_parts
from tests.peers.node import Node, running_node, running_pacs, stored
from tests.peers.ports import wait_for
from tests.unit.inference import tiny_parts
from tests.unit.inference.tiny_bundles import parts, write_bundle

_LIMIT = 12
"""Seconds that the pipeline which sleeps may take; loading it takes some of them, too."""
_MEMORY_MB = 1500
_HERE = misbehaving_parts.__name__

NETWORKS = {
    "fine": f"{tiny_parts.__name__}.BrightSpot",
    "sleeps": f"{_HERE}.SleepsForEver",
    "crashes": f"{_HERE}.Crashes",
    "eats": f"{_HERE}.EatsMemory",
    "nonsense": f"{_HERE}.Nonsense",
    "loads": f"{_HERE}.CrashesWhenLoaded",
}

ENDS: Mapping[str, tuple[str, str]] = {
    "sleeps": ("time_limit", f"it ran longer than its limit of {_LIMIT} s (in each of 2 tries)"),
    "crashes": ("crashed", "it crashed its worker with signal 11 (SIGSEGV) (in each of 2 tries)"),
    "eats": ("out_of_memory", "wanted more memory than its worker may take"),
    "nonsense": ("error", "it is not one probability for each of 2 labels"),
    "loads": ("crashed", "it crashed its worker with signal 6 (SIGABRT) (in each of 2 tries)"),
}
"""How the job of each pipeline ends: reason and words."""


@dataclass(frozen=True)
class Site:
    node: Node
    pacs: Orthanc
    folder: Path

    def send(self, pipeline: str) -> str:
        """Send a study whose description names the pipeline that it is for; returns its UID."""
        uid = generate_uid()
        pixels = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)
        image = radiograph(pixels, study=uid, StudyDescription=pipeline)
        file = self.folder / f"{uid}.dcm"
        image.save_as(file, enforce_file_format=True)
        assert self.node.send([file]).returncode == 0
        return str(uid)

    def job(self, study_uid: str) -> Job:
        with self.node.database.read() as session:
            query = select(Job).join(Job.study).where(Study.study_instance_uid == study_uid)
            return session.scalars(query).one()

    def is_running(self, study_uid: str) -> bool:
        line = self.node.studies().get(study_uid)
        return bool(line and line.jobs and line.jobs[0].state == "running")

    def first_event(self, study_uid: str, kind: str) -> int:
        """The place of a study's first event of a kind in the audit trail."""
        with self.node.database.read() as session:
            query = select(AuditEvent.id).where(
                AuditEvent.study_uid == study_uid, AuditEvent.kind == kind
            )
            return session.scalars(query.order_by(AuditEvent.id)).all()[0]

    def reports(self, study_uid: str) -> list[Any]:
        return [
            dcmread(io.BytesIO(self.pacs.file(item.orthanc_id)))
            for item in stored(self.pacs)
            if item.study_uid == study_uid
        ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("misbehaving")
    bundles = folder / "pipelines"
    for number, (name, network) in enumerate(NETWORKS.items()):
        post = {"postprocessing": "WithoutSoftmax"} if name == "nonsense" else {}
        inference = parts(network_def={"_target_": network}, **post)
        write_bundle(bundles, name, inference=inference, series_number=9700 + 10 * number)
    routes = [
        {
            "name": name,
            "when": {"attributes": {"StudyDescription": {"equals": name}}},
            "run": [name],
            "send_to": ["pacs"],
        }
        for name in NETWORKS
    ]
    with (
        running_pacs(folder / "pacs") as pacs,
        running_node(
            folder / "node",
            pacs.dicom_port,
            routes=routes,
            pipelines_path=[str(bundles)],
            pipelines={"sleeps": {"time_limit_seconds": _LIMIT}},
            inference={
                "device": "cpu",
                "workers": 2,
                "threads": 1,
                "attempts": 2,
                # shorter than the time limit: one that hangs cannot renew its claim
                "lease_seconds": 3,
                "max_memory_mb": _MEMORY_MB,
                "report_failures": True,
            },
        ) as node,
    ):
        yield Site(node, pacs, folder)


@dataclass(frozen=True)
class Ended:
    """Studies that have ended: one for each pipeline that misbehaves, and others."""

    bad: Mapping[str, str]
    others: list[str]


@pytest.fixture(scope="module")
def ended(site: Site) -> Ended:
    """The one that hangs is begun first; then come all others, mixed."""
    bad = {"sleeps": site.send("sleeps")}
    wait_for("the job that hangs", lambda: site.is_running(bad["sleeps"]), 300)
    others = []
    for pipeline in ("crashes", "eats", "nonsense", "loads"):
        bad[pipeline] = site.send(pipeline)
        others.append(site.send("fine"))
    site.node.wait_for_studies([*bad.values(), *others], deadline=500)
    for uid in bad.values():
        wait_for("the word that it failed", lambda uid=uid: len(site.reports(uid)) == 2, 60)
    return Ended(bad, others)


@pytest.mark.parametrize("pipeline", list(ENDS))
def test_a_pipeline_that_misbehaves_is_tried_twice_and_fails_with_its_reason(
    site: Site, ended: Ended, pipeline: str
) -> None:
    job = site.job(ended.bad[pipeline])
    reason, words = ENDS[pipeline]
    assert (job.state, job.attempts) == ("failed", 2)
    assert job.error is not None
    assert (job.error["reason"], words in job.error["why"]) == (reason, True), job.error


@pytest.mark.parametrize("pipeline", list(ENDS))
def test_of_a_pipeline_that_failed_the_pacs_gets_only_the_word_that_it_failed(
    site: Site, ended: Ended, pipeline: str
) -> None:
    said = {item.Modality: item for item in site.reports(ended.bad[pipeline])}
    assert sorted(said) == ["OT", "SR"]
    elements = list(said["SR"].iterall())
    texts = [str(item.value) for item in elements if item.keyword == "TextValue"]
    codes = {str(item.value) for item in elements if item.keyword == "CodeValue"}
    assert any("Not evaluated: processing failed" in text for text in texts), texts
    assert "process-failed" in codes
    assert codes.isdisjoint({"brightness", "dark", "bright"}), "nothing clinical"


def test_other_studies_are_done_at_their_first_try_before_the_one_that_hangs_has_failed(
    site: Site, ended: Ended
) -> None:
    failed = site.first_event(ended.bad["sleeps"], "job_failed")
    for uid in ended.others:
        job = site.job(uid)
        assert (job.state, job.attempts) == ("done", 1), job.error
        assert site.first_event(uid, "job_finished") < failed
        assert sorted(item.Modality for item in site.reports(uid)) == ["OT", "SR"]


def test_a_pipeline_that_took_down_its_worker_is_told_until_it_works_again(
    site: Site, ended: Ended
) -> None:
    with site.node.database.read() as session:
        told = {line.pipeline: line.why for line in overview.suspects(session)}
    assert set(told) == {"sleeps", "crashes", "eats", "loads"}
    assert "SIGSEGV" in told["crashes"]
    assert "suspect: pipeline crashes" in site.node.cli("status").stdout
