"""A role that starts again after a crash loads nothing that it can start without."""

from __future__ import annotations

import subprocess
import sys

import pytest

ROLES = {
    "receiver": "dicom_node.serve.receiving",
    "coordinator": "dicom_node.serve.coordinator",
    "web": "dicom_node.web.server",
}
NOT_FOR_THE_START = {"alembic", "matplotlib", "monai", "scipy", "skimage", "torch"}
"""Half a second and more each, on one core."""


@pytest.mark.parametrize("module", ROLES.values(), ids=ROLES)
def test_a_role_starts_without_what_only_pixels_or_new_tables_need(module: str) -> None:
    code = f"import sys, dicom_node.cli.app, dicom_node.serve.roles, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert NOT_FOR_THE_START.isdisjoint(loaded), NOT_FOR_THE_START & set(loaded)


def test_a_worker_starts_without_what_only_some_results_need() -> None:
    code = "import sys, dicom_node.serve.worker; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"alembic", "scipy.signal", "matplotlib.backends.backend_pdf"}.isdisjoint(loaded)
    assert "torch" in loaded
