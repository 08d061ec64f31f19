"""One knee radiograph, all three knee pipelines: each reports both knees to the PACS."""

from __future__ import annotations

import io
from pathlib import Path

from pydicom import dcmread

from dicom_node.demo.phantom_studies import radiograph_study, write_study
from dicom_node.results.text import report_text
from pipelines.phantoms.knee import knee_radiograph
from tests.peers.node import running_node, running_pacs, stored

_PIPELINES = ("knee_kl_ensemble", "knee_osteoporosis_superfluity", "knee_osteoporosis_resnet50")


def test_a_film_of_both_knees_gets_a_report_of_each_pipeline(tmp_path: Path) -> None:
    made = knee_radiograph(90, 0, left_grade=1)
    study = radiograph_study(
        made.image, made.spacing_mm, key="BOTH", body_part="KNEE", description="knees AP"
    )
    write_study(study, tmp_path / "film")
    route = {
        "name": "knees",
        "when": {"body_part": "knee"},
        "run": list(_PIPELINES),
        "send_to": ["pacs"],
    }
    with (
        running_pacs(tmp_path / "pacs") as pacs,
        running_node(tmp_path / "node", pacs.dicom_port, routes=[route]) as node,
    ):
        sent = node.send(sorted((tmp_path / "film").iterdir()))
        assert sent.returncode == 0, sent.stdout + sent.stderr
        uid = str(study[0].StudyInstanceUID)
        node.wait_for_studies([uid])
        jobs = {job.pipeline: job.state for job in node.studies()[uid].jobs}
        assert jobs == dict.fromkeys(_PIPELINES, "done"), node.log.read_text()[-3000:]
        found = [item for item in stored(pacs) if item.study_uid == uid]
        assert sorted(item.modality for item in found) == sorted(["SR", "OT", "PR"] * 3)
        reports = [
            report_text(dcmread(io.BytesIO(pacs.file(item.orthanc_id))))
            for item in found
            if item.modality == "SR"
        ]
    for text in reports:
        assert "right knee" in text.lower()
        assert "left knee" in text.lower()
    assert sum("Bone density class" in text for text in reports) == 2
