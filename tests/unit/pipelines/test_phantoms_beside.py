"""A simulated image beside a real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.phantoms import beside
from tests.factories import radiograph


def test_a_hip_is_shown_beside_phantoms_of_its_pixel_size(tmp_path: Path) -> None:
    radiograph().save_as(tmp_path / "hip.dcm", enforce_file_format=True)
    beside.main(["hip", str(tmp_path / "hip.dcm"), "--output", str(tmp_path / "hip.png")])
    with Image.open(tmp_path / "hip.png") as image:
        assert image.width > 1.5 * image.height
        assert np.asarray(image.convert("L")).std() > 20


def test_the_real_ct_is_shown_beside_a_phantom(shared: Path, tmp_path: Path) -> None:
    folder, output = shared / "ct_lumbar", tmp_path / "ct.png"
    body = folder / "vertebral_bodies.nii.gz"
    beside.main(["lumbar", str(folder / "ct.nii.gz"), "--body", str(body), "--output", str(output)])
    with Image.open(output) as image:
        assert image.width > 2 * image.height
