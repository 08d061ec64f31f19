"""held studies, superseded jobs, pipelines that take down their worker, retention."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_ADDED: dict[str, dict[str, sa.types.TypeEngine[Any]]] = {
    "studies": {"held_at": _TIME, "held_reason": sa.String(length=32), "held_text": sa.Text()},
    "instances": {"promised_at": _TIME, "purged_at": _TIME},
    "jobs": {"superseded_by": sa.Integer(), "notice": sa.String(length=8)},
    "reports": {"purged_at": _TIME},
}


def upgrade() -> None:
    for table, columns in _ADDED.items():
        for name, kind in columns.items():
            op.add_column(table, sa.Column(name, kind, nullable=True))
    op.add_column(
        "studies", sa.Column("lost_workers", sa.Integer(), nullable=False, server_default="0")
    )
    op.create_table(
        "suspects",
        sa.Column("pipeline", sa.String(length=64), nullable=False),
        sa.Column("since", _TIME, nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("pipeline"),
    )
    _note_promises()


def _note_promises() -> None:
    """Images that senders were told are safe before this revision."""
    commitments = sa.table(
        "commitments",
        sa.column("state", sa.String()),
        sa.column("references", sa.JSON()),
        sa.column("failed", sa.JSON()),
        sa.column("requested_at", _TIME),
    )
    instances = sa.table(
        "instances", sa.column("sop_instance_uid", sa.String()), sa.column("promised_at", _TIME)
    )
    connection = op.get_bind()
    told = sa.select(commitments).where(commitments.c.state.in_(("verified", "reported")))
    for row in connection.execute(told):
        lost = {item[1] for item in row.failed or []}
        for _, uid in row.references:
            if uid not in lost:
                connection.execute(
                    instances.update()
                    .where(instances.c.sop_instance_uid == uid)
                    .values(promised_at=row.requested_at)
                )


def downgrade() -> None:
    op.drop_table("suspects")
    op.drop_column("studies", "lost_workers")
    for table, columns in _ADDED.items():
        for name in columns:
            op.drop_column(table, name)
