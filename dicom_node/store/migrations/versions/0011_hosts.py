"""hosts with a data folder each: which one holds a file."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "hosts",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("folder", sa.String(length=32), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("heard_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("indexed_to", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    for table in ("instances", "reports"):
        op.add_column(table, sa.Column("host", sa.String(length=64), nullable=True))
        op.create_index(f"ix_{table}_host", table, ["host", "purged_at"])


def downgrade() -> None:
    for table in ("reports", "instances"):
        op.drop_index(f"ix_{table}_host", table_name=table)
        op.drop_column(table, "host")
    op.drop_table("hosts")
