"""Alembic's entry: runs the migrations on the connection that `Database` hands over."""

from typing import Any, Literal

from alembic import context

# the tables of the metadata
from dicom_node.store import (  # noqa: F401
    access_tables,
    configuration_tables,
    host_tables,
    inference_tables,
    watch_tables,
)
from dicom_node.store.tables import Base, UtcDateTime


def _render(kind: str, item: Any, _: Any) -> str | Literal[False]:
    # a migration must stand for itself, whatever becomes of our own types
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=True,
    compare_type=True,
    render_item=_render,
)
with context.begin_transaction():
    context.run_migrations()
