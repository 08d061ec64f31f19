"""priorities, turns of senders, and self-tests of pipelines."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("priority", sa.Integer(), server_default="0", nullable=False))
    op.add_column(
        "jobs", sa.Column("sender", sa.String(length=16), server_default="", nullable=False)
    )
    op.create_table(
        "sender_turns",
        sa.Column("sender", sa.String(length=16), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("sender"),
    )
    op.create_table(
        "pipeline_tests",
        sa.Column("pipeline", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("weights_sha256", sa.String(length=64), nullable=False),
        sa.Column("tested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("pipeline"),
    )


def downgrade() -> None:
    op.drop_table("pipeline_tests")
    op.drop_table("sender_turns")
    op.drop_column("jobs", "sender")
    op.drop_column("jobs", "priority")
