"""Logs: lines for machines or people, and never a value of a data set."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

_HEAD = """
import logging, threading, warnings
import structlog
from dicom_node.errors import StoreError
from dicom_node.logs import set_up_logging
set_up_logging("worker", json={json})
log = structlog.get_logger()
"""


def output_of(code: str, *, as_json: bool = True) -> str:
    """Standard error of a process that logs."""
    ended = subprocess.run(
        [sys.executable, "-c", _HEAD.format(json=as_json) + code],
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.stderr


def lines_of(code: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output_of(code).splitlines()]


def test_a_line_has_its_role_level_and_time_in_utc() -> None:
    (line,) = lines_of("log.info('job_started', job_id=3)")
    assert (line["event"], line["role"], line["level"], line["job_id"]) == (
        "job_started",
        "worker",
        "info",
        3,
    )
    assert line["timestamp"].endswith("Z")


def test_the_lines_of_other_threads_have_the_role_too() -> None:
    code = "thread = threading.Thread(target=log.info, args=('sent',)); thread.start()"
    (line,) = lines_of(code)
    assert (line["event"], line["role"]) == ("sent", "worker")


def test_without_a_terminal_there_are_no_escape_sequences() -> None:
    text = output_of("log.error('job_failed', why='x')", as_json=False)
    assert "job_failed" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    "code",
    [
        "raise ValueError('Doe^Jane')",
        "thread = threading.Thread(target=lambda: int('Doe^Jane')); thread.start(); thread.join()",
        "try:\n    int('Doe^Jane')\nexcept ValueError:\n    log.exception('told')",
        "try:\n    int('Doe^Jane')\nexcept ValueError as e:\n    log.error('told', exc_info=e)",
        "logging.getLogger('pydicom').warning('bad value: Doe^Jane')",
        "logging.getLogger('some.library').error('bad value: %s', 'Doe^Jane')",
        "warnings.warn('Invalid value for VR DA: Doe^Jane')",
        "import pydicom; d = pydicom.Dataset(); d.PatientID = 'Doe^Jane' * 20",
    ],
)
def test_neither_an_exception_nor_a_library_brings_a_value_into_the_log(code: str) -> None:
    lines = lines_of(code)
    assert lines
    assert "Doe" not in json.dumps(lines)
    assert all("where" in line for line in lines)


def test_an_exception_that_ends_the_process_is_logged_with_its_place() -> None:
    (line,) = lines_of("def inner():\n    raise KeyError('Doe')\n\ninner()")
    assert (line["event"], line["error"]) == ("process_crashed", "KeyError")
    assert line["where"].startswith("<string>:")


def test_our_own_error_keeps_what_why_and_fix() -> None:
    (line,) = lines_of("raise StoreError('database', 'it is full', 'free space')")
    assert (line["what"], line["why"], line["fix"]) == ("database", "it is full", "free space")
