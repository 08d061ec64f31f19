"""`route --explain`: it reads, and changes nothing."""

from __future__ import annotations

from pathlib import Path

from pydicom import dcmwrite

from tests.factories import radiograph
from tests.unit.cli.command import dicom_node
from tests.unit.serve.small_node import write_config


def test_a_garbled_file_is_left_out_and_the_others_are_explained(tmp_path: Path) -> None:
    config = write_config(tmp_path, routes=[])
    folder = tmp_path / "images"
    folder.mkdir()
    dcmwrite(folder / "a.dcm", radiograph(study="1.2.3"), enforce_file_format=True)
    (folder / "b.dcm").write_bytes((folder / "a.dcm").read_bytes()[:142])
    ended = dicom_node("route", "--explain", folder, "--config", config)
    assert ended.status == 0, ended.err
    assert "study 1.2.3" in ended.out
    assert "1 files left out" in ended.err


def test_a_study_is_not_looked_for_in_a_database_that_is_not_there(tmp_path: Path) -> None:
    config = write_config(tmp_path, routes=[])
    ended = dicom_node("route", "--explain", "1.2.3", "--config", config)
    assert ended.status == 1
    assert "there is none yet" in ended.err
    assert not list(tmp_path.rglob("*.sqlite3"))
