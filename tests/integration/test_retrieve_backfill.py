"""`dicom-node backfill` against Orthanc: found, pulled, analysed; and not a second time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid

from dicom_node.demo.ports import free_port
from dicom_node.store import audit
from tests.factories import ct_slice, radiograph
from tests.peers import archives
from tests.peers.archives import RunningArchive
from tests.peers.node import Node
from tests.peers.ports import wait_for
from tests.unit.serve.small_node import events

DAYS = ("--from", "2026-01-01", "--to", "2026-01-05")
KNEES = ("backfill", "--peer", "pacs", "--modality", "DX", "--body-part", "knee", *DAYS)


@dataclass
class Past:
    """A node, and an archive with studies that the node has never seen."""

    node: Node
    archive: RunningArchive
    knees: list[FileDataset]
    folder: Path

    @property
    def knee_uids(self) -> set[str]:
        return {str(image.StudyInstanceUID) for image in self.knees}

    def backfill(self, *arguments: str) -> dict[str, Any]:
        done = self.node.cli(*KNEES, "--json", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


def one_of_each() -> tuple[list[FileDataset], list[FileDataset]]:
    knees = [radiograph(StudyDate=f"2026010{day}") for day in (1, 2, 5)]
    # a scan in a knee study is left where it is
    scan = ct_slice(
        knees[0].pixel_array,
        1.0,
        study=str(knees[0].StudyInstanceUID),
        series=generate_uid(),
        number=1,
        StudyDate="20260101",
    )
    hip = radiograph(StudyDate="20260102", BodyPartExamined="HIP")
    later = radiograph(StudyDate="20260106")
    return knees, [scan, hip, later]


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    folder = tmp_path_factory.mktemp("past")
    pacs_port = free_port()
    settle = {"quiet_seconds": 1, "ask_peer": "pacs", "longest_wait_seconds": 6}
    node = Node(folder / "node", pacs_port, settle=settle)
    with archives.orthanc(folder / "pacs", node.port, pacs_port) as archive:
        knees, others = one_of_each()
        archive.put(folder / "sent", [*knees, *others])
        try:
            node.start()
            yield Past(node, archive, knees, folder)
        finally:
            node.close()


def test_a_month_is_pulled_and_analysed_once(past: Past) -> None:
    looked = past.backfill("--dry-run")
    assert set(looked["to_pull"]) == past.knee_uids
    assert (looked["found"], looked["not_wanted"]) == (4, 1)
    assert not past.node.studies()

    done = past.backfill("--yes")
    assert (done["pulled"], done["not_wanted"], done["failed"], done["left"]) == (3, 1, 0, 0)
    studies = past.node.wait_for_studies(past.knee_uids)
    assert {line.instances for line in studies.values()} == {1}
    assert all(line.jobs for line in studies.values())
    assert set(past.node.studies()) == past.knee_uids
    assert len(events(past.node.database, "study_pulled")) == 3
    # the scan of the first one, which nobody asked for, is not waited for
    assert not events(past.node.database, "study_waits_for_images")

    again = past.backfill("--yes")
    assert (again["pulled"], again["already_here"]) == (0, 3)
    assert len(events(past.node.database, "study_asked_for")) == 3


def test_a_backfill_that_is_stopped_goes_on_where_it_was(past: Past) -> None:
    images = [radiograph(StudyDate="20260210") for _ in range(4)]
    past.archive.put(past.folder / "later", images)
    uids = {str(image.StudyInstanceUID) for image in images}
    command = ("backfill", "--peer", "pacs", "--modality", "DX", "--from", "2026-02-01")
    command += ("--to", "2026-02-28", "--yes", "--config", str(past.node.config_file))
    before = len(events(past.node.database, "study_pulled"))
    process = subprocess.Popen(
        [sys.executable, "-m", "dicom_node", *command, "--rate", "10/min"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_for(
            "the first study",
            lambda: len(events(past.node.database, "study_pulled")) > before,
            60,
        )
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1, told
    pulled = len(events(past.node.database, "study_pulled")) - before
    assert 1 <= pulled < 4
    assert f"4 studies found, {pulled} pulled, {4 - pulled} left" in told

    done = past.node.cli(*command[:-2])
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"4 studies found, {pulled} already here, {4 - pulled} pulled" in done.stdout
    assert len(events(past.node.database, "study_pulled")) == before + 4
    past.node.wait_for_studies(uids)


def settled(past: Past, uid: str) -> list[str]:
    with past.node.database.read() as session:
        return [
            str(event.data["asked"])
            for event in audit.events_of(session, uid)
            if event.kind == "study_settled"
        ]


def test_a_study_waits_for_what_the_archive_has_more(past: Past) -> None:
    study = generate_uid()
    images = [radiograph(study=study, StudyDate="20260320") for _ in range(3)]
    files = past.archive.put(past.folder / "waits", images)
    assert past.node.send(files[:2]).returncode == 0
    wait_for(
        "the study to wait",
        lambda: events(past.node.database, "study_waits_for_images"),
        30,
    )
    assert not settled(past, study)
    assert past.node.send(files[2:]).returncode == 0
    past.node.wait_for_studies([study])
    assert settled(past, study) == ["3 of 3 images"]
    # its reports are in the archive now, and are not waited for when it is settled again
    late = radiograph(study=study, StudyDate="20260320")
    files = past.archive.put(past.folder / "late", [late])
    assert past.node.send(files).returncode == 0
    wait_for("the second settling", lambda: len(settled(past, study)) == 2)
    assert settled(past, study)[1] == "4 of 4 images"


def test_images_that_never_come_are_not_waited_for_for_ever(past: Past) -> None:
    study = generate_uid()
    images = [radiograph(study=study, StudyDate="20260320") for _ in range(2)]
    files = past.archive.put(past.folder / "never", images)
    assert past.node.send(files[:1]).returncode == 0
    past.node.wait_for_studies([study])
    assert settled(past, study) == ["1 of 2 images"]


def test_nothing_of_a_patient_was_told(past: Past) -> None:
    log = past.node.log.read_text()
    assert "study_waits_for_images" in log
    assert "Phantom" not in log
    assert "PHANTOM" not in log
