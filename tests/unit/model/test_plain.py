"""Findings as JSON: every fact is kept, arrays are not."""

from __future__ import annotations

import json

import numpy as np

from dicom_node.model.findings import Measurement, Region, Side
from dicom_node.model.plain import rows_of
from tests.unit.results import samples


def test_every_fact_of_a_finding_survives_json_and_arrays_are_left_out() -> None:
    header = samples.knee_header()
    subject = samples.one_knee(header)
    items = [
        samples.kl(subject),
        Measurement(subject, samples.KNEE, np.float32(1.5), samples.MG_CM3, uncertainty=None),
        Region(subject, samples.KNEE, np.ones((2, 2), bool)),
        samples.grad_cam(subject, (64, 48)),
    ]
    found = rows_of(samples.findings(header, items, statement="Right knee: grade 2."))
    rows = json.loads(json.dumps([list(row) for row in found]))
    assert [kind for kind, _ in rows] == [
        *("statement", "classification", "measurement", "region", "saliency")
    ]
    assert rows[0][1] == {"text": "Right knee: grade 2."}
    kl = rows[1][1]
    assert (kl["predicted"], kl["coverage"], kl["prediction_set"]) == (2, 0.9, [2, 3])
    assert kl["subject"]["side"] == Side.RIGHT
    assert kl["labels"][2]["code"]["scheme"] == "99DCMNODE"
    assert rows[2][1]["value"] == 1.5
    assert rows[2][1]["uncertainty"] is None
    assert "mask" not in rows[3][1]
    assert "map" not in rows[4][1]
    assert rows[4][1]["method"] == "Grad-CAM"


def test_a_reason_for_no_evaluation_is_kept() -> None:
    rows = rows_of(samples.not_evaluated(samples.knee_header()))
    assert rows[1][0] == "not_evaluated"
    assert rows[1][1]["text"] == "the image is not an AP view of the knee"
    assert rows[1][1]["reason"]["value"] == "wrong-view"
