"""All of a database into another, empty one: from SQLite to PostgreSQL, or back."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import JSON, Table, bindparam, func, insert, select, tuple_
from sqlalchemy.orm import Session

from dicom_node.errors import StoreError

# the tables of the metadata
from dicom_node.store import (  # noqa: F401
    access_tables,
    configuration_tables,
    host_tables,
    inference_tables,
    watch_tables,
)
from dicom_node.store.database import Database
from dicom_node.store.tables import Base

_PAGE: Final = 500


def copy(source: Database, target: Database) -> dict[str, int]:
    """Copy every row; nobody may write to the source meanwhile.

    Returns:
        The number of rows by table.

    Raises:
        StoreError: The target cannot be reached, or is not empty.
    """
    target.migrate()
    tables = Base.metadata.sorted_tables
    with source.read() as reading, target.write() as writing:
        for table in tables:
            if writing.execute(select(*table.primary_key.columns).limit(1)).first():
                raise StoreError(
                    "the database to copy to",
                    f"its table {table.name} is not empty",
                    "name a new database",
                )
        copied = {table.name: _copy(reading, writing, table) for table in tables}
        if target.is_postgres:
            for table in tables:
                _count_on(writing, table)
    return copied


def _copy(reading: Session, writing: Session, table: Table) -> int:
    keys = list(table.primary_key.columns)
    into = insert(table).values({column.name: _value(column) for column in table.columns})
    page = select(table).order_by(*keys).limit(_PAGE)
    number, rows = 0, reading.execute(page).mappings().all()
    while rows:
        writing.execute(into, [dict(row) for row in rows])
        number += len(rows)
        last = [rows[-1][key.name] for key in keys]
        rows = reading.execute(page.where(tuple_(*keys) > tuple_(*last))).mappings().all()
    return number


def _value(column: Any) -> Any:
    kind = JSON(none_as_null=True) if isinstance(column.type, JSON) else column.type
    return bindparam(column.name, type_=kind)


def _count_on(writing: Session, table: Table) -> None:
    """Let PostgreSQL number new rows behind those that are there."""
    key = table.autoincrement_column
    if key is None:
        return
    sequence = func.pg_get_serial_sequence(table.name, key.name)
    last = writing.scalar(select(func.max(key)))
    if last is not None:
        writing.execute(select(func.setval(sequence, last)))
