"""storage commitment that we ask for."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "asked_commitments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("peer", sa.String(length=64), nullable=False),
        sa.Column("ae_title", sa.String(length=16), nullable=False),
        sa.Column("references", sa.JSON(), nullable=False),
        sa.Column("requested_at", _TIME, nullable=False),
        sa.Column("answered_at", _TIME, nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("transaction_uid"),
    )
    op.add_column("deliveries", sa.Column("ask_at", _TIME, nullable=True))
    op.add_column(
        "deliveries", sa.Column("asked", sa.Integer(), nullable=False, server_default="0")
    )
    op.add_column("deliveries", sa.Column("transaction_uid", sa.String(length=64), nullable=True))
    op.add_column(
        "deliveries", sa.Column("resent", sa.Integer(), nullable=False, server_default="0")
    )


def downgrade() -> None:
    for column in ("resent", "transaction_uid", "asked", "ask_at"):
        op.drop_column("deliveries", column)
    op.drop_table("asked_commitments")
