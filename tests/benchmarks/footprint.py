"""What a running node takes: memory, files, threads, rows, bytes; read from outside it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sqlalchemy import func, select, text

from dicom_node.store.database import Database
from dicom_node.store.tables import Base

MB = 1024 * 1024
_ROLE = re.compile(r"--role\0([a-z]+)\0")


def family(pid: int) -> dict[int, str]:
    """Return a process and all that descend from it, each with its role's name."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # after the name in brackets, which may hold anything: state, parent
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended
            parents[int(entry.name)] = int(stat[1])
    found = {pid: "supervisor"}
    grown = True
    while grown:
        new = {child for child, parent in parents.items() if parent in found} - found.keys()
        grown = bool(new)
        found |= {child: _role(child) for child in new}
    return found


def _role(pid: int) -> str:
    try:
        command = (Path("/proc") / str(pid) / "cmdline").read_text()
    except OSError:
        return "ended"
    match = _ROLE.search(command)
    return match.group(1) if match else "other"


def of_processes(pid: int) -> dict[str, float]:
    """Sum memory (MB, proportional share), open files and threads of a node's processes."""
    found: dict[str, float] = {}
    for process, role in family(pid).items():
        home = Path("/proc") / str(process)
        try:
            memory = re.search(r"^Pss:\s+(\d+)", (home / "smaps_rollup").read_text(), re.M)
            threads = re.search(r"^Threads:\s+(\d+)", (home / "status").read_text(), re.M)
            files = len(os.listdir(home / "fd"))
        except OSError:
            continue  # it has ended since
        if memory is None or threads is None:
            continue  # it is ending: it has no memory any more
        for name in ("all", role):
            for what, number in (
                ("MB of memory", int(memory[1]) / 1024),
                ("open files", files),
                ("threads", int(threads[1])),
                ("processes", 1),
            ):
                key = f"{what}, {name}"
                found[key] = found.get(key, 0) + number
    return found


def of_database(database: Database) -> dict[str, float]:
    """Count every table's rows, and the database's megabytes on disk."""
    found: dict[str, float] = {}
    with database.read() as session:
        for name, table in sorted(Base.metadata.tables.items()):
            found[f"rows of {name}"] = session.scalar(select(func.count()).select_from(table)) or 0
        if database.is_postgres:
            size = session.scalar(text("SELECT pg_database_size(current_database())")) or 0
    if database.file is not None:
        name = database.file.name
        size = sum(_size(file) for file in database.file.parent.glob(f"{name}*"))
    return {**found, "MB of database": size / MB}


def of_data_folder(folder: Path, database: Database) -> dict[str, float]:
    """Measure each part of the data folder but the database: megabytes, files, folders."""
    found: dict[str, float] = {}
    ours = database.file.name if database.file is not None else "\0"
    for part in sorted(folder.iterdir()):
        # a file that takes the place of another is there for a moment, by a name of its own
        if part.name.startswith(ours) or part.suffix == ".tmp":
            continue
        inside = list(part.rglob("*")) if part.is_dir() else [part]
        files = [item for item in inside if item.is_file()]
        found[f"MB of data/{part.name}"] = sum(map(_size, files)) / MB
        found[f"files of data/{part.name}"] = len(files)
        found[f"folders of data/{part.name}"] = len(inside) - len(files)
    return found


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0  # it was removed meanwhile
