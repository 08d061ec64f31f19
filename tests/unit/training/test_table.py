"""What is wrong with a folder of labelled images is told before anything is loaded."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dicom_node.errors import DataFolderError
from dicom_node.training.table import Row, effective_split, read_table

GRADES = {str(grade): grade for grade in range(5)}


def folder_of(tmp_path: Path, table: str, images: int = 3) -> Path:
    for n in range(images):
        (tmp_path / f"{n}.png").write_bytes(b"")
    (tmp_path / "labels.csv").write_text(table, encoding="utf-8")
    return tmp_path


def read(folder: Path, *splits: str) -> list[Row]:
    return read_table(folder, ["kl", "label"], GRADES, splits or ["test"])


def test_rows_of_the_split_are_read_with_side_and_patient(tmp_path: Path) -> None:
    table = "file,label,split,side,patient\n0.png,2,train,L,a\n1.png, 3.0 ,test,left,b\n"
    (row,) = read(folder_of(tmp_path, table))
    assert row == Row(3, tmp_path / "1.png", 3, "test", "L", "b")


@pytest.mark.parametrize("splits", [("test",), ("all",), ("train",)])
def test_without_a_column_split_every_row_is_read(tmp_path: Path, splits: tuple[str]) -> None:
    folder = folder_of(tmp_path, "file,kl\n0.png,0\n1.png,1\n")
    assert [row.label for row in read(folder, *splits)] == [0, 1]


def test_the_split_that_rows_are_of_is_all_without_the_column(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "file,kl\n0.png,0\n")
    assert effective_split(read(folder, "test"), "test") == "all"
    folder = folder_of(tmp_path, "file, kl, split\n0.png,0,test\n")
    assert effective_split(read(folder, "test"), "test") == "test"


def test_all_takes_every_row_of_every_split(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "\ufefffile,kl,split\n0.png,0,train\n1.png,1,test\n")
    assert len(read(folder, "all")) == 2


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ("file,kl\n", "no rows"),
        ("name,kl\n0.png,1\n", "neither a column `file` nor a column `sop_instance_uid`"),
        ("file,grade\n0.png,1\n", "no column `kl` or `label`"),
        ("file,kl\n0.png,1\n1.png,5\n2.png,?\n", r"2 rows .* \(line 3: 5, line 4: \?\)"),
        ("file,kl\n0.png\n", "1 rows have a label"),
        ("file,kl,split\n0.png,1,training\n", "no row is of split test; there are: training"),
        ("file,kl\n0.png,1\nx.png,1\n", "1 of 2 images are not in the folder: line 3: x.png$"),
        ("file,kl\n" + "x.png,1\n" * 7, "7 of 7 .*line 6: x.png and 2 more"),
        ("sop_instance_uid,kl\n1.2.3,1\n", "not in the folder: line 2: 1.2.3"),
        ("file,kl,side\n0.png,1,lateral\n1.png,1,R\n2.png,1,1\n", "2 .* 2: lateral, line 4: 1"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, table: str, why: str) -> None:
    with pytest.raises(DataFolderError) as told:
        read(folder_of(tmp_path, table))
    assert re.search(why, told.value.why)
    assert told.value.fix


def test_a_folder_without_a_table_or_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataFolderError, match=r"has no labels\.csv"):
        read(tmp_path)
    with pytest.raises(DataFolderError, match="no such folder"):
        read(tmp_path / "none")


def test_a_table_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"file,kl\n\xff\xfe\x00,1\n")
    with pytest.raises(DataFolderError, match="no CSV in UTF-8"):
        read(tmp_path)
