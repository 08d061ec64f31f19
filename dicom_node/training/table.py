"""The table of a folder of labelled images, `labels.csv`, checked before anything is loaded."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from pydicom import dcmread

from dicom_node.errors import DataFolderError
from dicom_node.training.contract import ALL_ROWS

_log = structlog.get_logger()

TABLE: Final = "labels.csv"
_UID: Final = "sop_instance_uid"
_NAMED: Final = 5
"""So many of the things that are wrong are named."""
_SIDES: Final = {"r": "R", "right": "R", "l": "L", "left": "L", "": ""}
_LONGEST: Final = 20
"""A label that is longer is something else: it is not repeated whole."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        line: In the file; the heading is line 1.
        file: The image.
        label: Index of its label in the labels that the pipeline knows.
        split: "" without such a column.
        side: "R", "L" or "".
        group: What belongs together (column `patient`); "" without.
    """

    line: int
    file: Path
    label: int
    split: str
    side: str
    group: str


def read_table(
    folder: Path, columns: Sequence[str], labels: Mapping[str, int], splits: Sequence[str]
) -> list[Row]:
    """Read the rows of some splits: columns `file` or `sop_instance_uid`, and the label's.

    Optional columns: `split`, `side` (of the body: R or L) and `patient`. Without `split` every
    row is of every split.

    Args:
        columns: Names that the column of labels may have; the first that is there counts.
        labels: Index by what may stand in that column, in lower case.
        splits: "all" stands for every row.

    Raises:
        DataFolderError: A column, an image, a split or a label is not as it must be.
    """
    file = folder / TABLE
    lines = read_cells(folder)
    names = set(lines[0])
    label = next((name for name in columns if name in names), None)
    if not names & {"file", _UID}:
        raise DataFolderError(
            str(file),
            f"it has neither a column `file` nor a column `{_UID}`",
            "name each image by its file in the folder, or by its SOP Instance UID",
        )
    if label is None:
        wanted = " or ".join(f"`{name}`" for name in columns)
        raise DataFolderError(
            str(file), f"it has no column {wanted}", "add the column with each image's label"
        )
    rows = list(enumerate(lines, start=2))
    if "split" in names and ALL_ROWS not in splits:
        rows = _of_splits(file, rows, splits)
    _check_labels(file, rows, label, labels)
    _check_sides(file, rows)
    found = _files(folder, file, rows, "file" if "file" in names else _UID)
    return [
        Row(
            line,
            path,
            labels[_key(cells[label])],
            cells.get("split", ""),
            _SIDES[cells.get("side", "").lower()],
            cells.get("patient", ""),
        )
        for (line, cells), path in zip(rows, found, strict=True)
    ]


def effective_split(rows: Sequence[Row], split: str) -> str:
    """Return the split that rows read for `split` are of: "all" if the table has no such column."""
    return split if any(row.split for row in rows) else ALL_ROWS


def read_cells(folder: Path) -> list[dict[str, str]]:
    """Return the cells of each row of the folder's table by their column, without blanks around.

    Raises:
        DataFolderError: There is no table, it cannot be read, or it has no rows.
    """
    file = folder / TABLE
    if not folder.is_dir():
        raise DataFolderError(str(folder), "there is no such folder", "correct --data")
    if not file.is_file():
        raise DataFolderError(
            str(folder),
            f"it has no {TABLE}",
            f"write {TABLE} there: a line an image, with the columns of docs/add-a-pipeline.md",
        )
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            lines = [
                {k.strip(): (v or "").strip() for k, v in line.items() if k is not None}
                for line in csv.DictReader(opened)
            ]
    except (UnicodeDecodeError, csv.Error):
        raise DataFolderError(
            str(file), "it is no CSV in UTF-8", "export it again as CSV, UTF-8"
        ) from None
    if not lines:
        raise DataFolderError(str(file), "it has no rows below its heading", "add a row an image")
    return lines


def _of_splits(
    file: Path, rows: list[tuple[int, dict[str, str]]], splits: Sequence[str]
) -> list[tuple[int, dict[str, str]]]:
    there = sorted({cells["split"] for _, cells in rows} - {""})
    for split in splits:
        if split not in there:
            raise DataFolderError(
                str(file),
                f"no row is of split {split}; there are: {', '.join(there[:_NAMED]) or 'none'}",
                "correct the column `split`, or leave it out to use every row",
            )
    return [(line, cells) for line, cells in rows if cells["split"] in splits]


def _check_labels(
    file: Path,
    rows: Sequence[tuple[int, dict[str, str]]],
    column: str,
    labels: Mapping[str, int],
) -> None:
    wrong = [(n, cells[column]) for n, cells in rows if _key(cells[column]) not in labels]
    if wrong:
        told = ", ".join(f"line {n}: {_short(value)}" for n, value in wrong[:_NAMED])
        raise DataFolderError(
            f"{file}: column {column}",
            f"{len(wrong)} rows have a label that the pipeline does not know ({told})",
            f"known: {', '.join(labels)}",
        )


def _check_sides(file: Path, rows: Sequence[tuple[int, dict[str, str]]]) -> None:
    wrong = [
        (n, side) for n, cells in rows if (side := cells.get("side", "")).lower() not in _SIDES
    ]
    if wrong:
        told = ", ".join(f"line {n}: {_short(value)}" for n, value in wrong[:_NAMED])
        raise DataFolderError(
            f"{file}: column side",
            f"{len(wrong)} rows have a side that is none ({told})",
            "write R or L, or nothing where it is not known",
        )


def _files(
    folder: Path, file: Path, rows: Sequence[tuple[int, dict[str, str]]], column: str
) -> list[Path]:
    if column == _UID:
        by_uid = _index(folder)
        found = [by_uid.get(cells[_UID]) for _, cells in rows]
    else:
        found = [folder / cells["file"] if cells["file"] else None for _, cells in rows]
        found = [path if path is not None and path.is_file() else None for path in found]
    missing = [
        f"line {line}: {cells[column] or 'nothing'}"
        for (line, cells), path in zip(rows, found, strict=True)
        if path is None
    ]
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise DataFolderError(
            str(file),
            f"{len(missing)} of {len(rows)} images are not in the folder: "
            f"{', '.join(missing[:_NAMED])}{more}",
            "copy the images to the folder, or take their rows out of the table",
        )
    return [path for path in found if path is not None]


def _index(folder: Path) -> dict[str, Path]:
    """The DICOM files of a folder and below, by SOP Instance UID."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if is_dicom(path):
            try:
                header = dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
            except Exception as error:  # noqa: BLE001 - a damaged file makes pydicom raise anything
                # without its name, which may be a patient's; the table's rows are told by line
                _log.warning("dicom_file_not_read", error=type(error).__name__)
                continue
            found.setdefault(str(header.get("SOPInstanceUID", "")), path)
    return found


def is_dicom(path: Path) -> bool:
    """Tell a DICOM file by its preamble (PS3.10 7.1)."""
    if not path.is_file():
        return False
    with path.open("rb") as opened:
        return opened.read(132)[128:] == b"DICM"


def _key(cell: str) -> str:
    """A label as it is compared: 2, 2.0 and " 2 " are the same."""
    text = cell.strip().lower()
    return text[:-2] if text.endswith(".0") and text[:-2].isdigit() else text


def _short(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…"
