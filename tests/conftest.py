"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the real data sets; CI has them, a user's clone need not."""
    value = os.environ.get("DICOM_NODE_SHARED")
    if value and (Path(value) / "data").is_dir():
        return Path(value) / "data"
    if os.environ.get("CI"):
        pytest.fail("DICOM_NODE_SHARED must name the folder with the real data in CI")
    pytest.skip("needs real data: set DICOM_NODE_SHARED to the folder that holds data/")
