"""the report that a report replaces, and the other forms of an SR."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("replaces", sa.JSON(), nullable=True))
    op.add_column("reports", sa.Column("series_instance_uid", sa.String(length=64), nullable=True))
    op.add_column("reports", sa.Column("alternatives", sa.JSON(), nullable=True))
    op.add_column("deliveries", sa.Column("sent_as", sa.String(length=64), nullable=True))


def downgrade() -> None:
    op.drop_column("deliveries", "sent_as")
    op.drop_column("reports", "alternatives")
    op.drop_column("reports", "series_instance_uid")
    op.drop_column("jobs", "replaces")
