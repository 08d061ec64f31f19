"""Every migration goes both ways, with rows in the tables."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from dicom_node.store import index
from dicom_node.store.database import MIGRATIONS, Database
from dicom_node.store.tables import Base
from tests.factories import ManualClock, facts

REVISIONS = [item.revision for item in ScriptDirectory(str(MIGRATIONS)).walk_revisions()][::-1]


def test_the_scripts_are_one_line_by_their_numbers(database: Database) -> None:
    assert database.revision() == (REVISIONS[-1], REVISIONS[-1])
    assert database.older_revisions() == REVISIONS[-2::-1]


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_migration_is_undone_and_done_again(database: Database, revision: str) -> None:
    clock = ManualClock()
    item = facts()
    with database.write() as session:
        index.add_instance(session, index.Arrival(item, "x", "a", clock.now()), clock.now())

    before = dict(zip(REVISIONS, ["base", *REVISIONS], strict=False))[revision]
    database.roll_back(before)

    if before == "base":
        assert set(inspect(database.engine).get_table_names()) <= {"alembic_version"}
    else:
        assert database.revision()[0] == before
        with database.engine.connect() as connection:
            assert connection.scalar(text("select count(*) from instances")) == 1
    database.migrate()
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
