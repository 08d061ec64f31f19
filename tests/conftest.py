"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the real data sets; CI has them, a user's clone need not."""
    value = os.environ.get("DICOM_NODE_SHARED")
    if not value:
        pytest.skip("needs real data: set DICOM_NODE_SHARED to the folder that holds data/")
    data = Path(value) / "data"
    if not data.is_dir():
        pytest.fail(f"DICOM_NODE_SHARED names {value}, but {data} is not there")
    return data


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long",
        action="store_true",
        help="fault and fuzz tests for as long as before a release (some twenty minutes)",
    )


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Whether fault and fuzz tests are to run their long mode."""
    return bool(request.config.getoption("--long"))
