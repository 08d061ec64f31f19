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


def loaded_by(*modules: str) -> set[str]:
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    process = [sys.executable, "-c", code]
    return set(subprocess.run(process, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("module", ROLES.values(), ids=ROLES)
def test_a_role_starts_without_what_only_pixels_or_new_tables_need(module: str) -> None:
    loaded = loaded_by("dicom_node.cli.app", "dicom_node.serve.roles", module)
    assert not NOT_FOR_THE_START & loaded


def test_a_worker_starts_without_what_only_some_results_need() -> None:
    loaded = loaded_by("dicom_node.serve.worker")
    assert not {"alembic", "scipy.signal", "matplotlib.backends.backend_pdf"} & loaded
    assert "torch" in loaded
