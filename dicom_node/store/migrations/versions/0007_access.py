"""users of the dashboard and their sessions; what studies are found and listed by."""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

from dicom_node.store.words import headline, words_of

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TIME: Final = sa.DateTime(timezone=True)
_BATCH: Final = 500
_HEADLINE: Final[dict[str, sa.types.TypeEngine[Any]]] = {
    "patient_id": sa.Text(),
    "patient_name": sa.Text(),
    "accession_number": sa.Text(),
    "study_date": sa.String(length=8),
    "modality": sa.String(length=16),
    "sender": sa.String(length=16),
}
_INDEXES: Final = (
    ("ix_studies_study_date", "studies", ["study_date", "id"]),
    ("ix_studies_sender", "studies", ["sender", "id"]),
    ("ix_studies_first_instance_at", "studies", ["first_instance_at"]),
    ("ix_studies_held_at", "studies", ["held_at"]),
    ("ix_jobs_finished_at", "jobs", ["finished_at"]),
    ("ix_jobs_state_finished_at", "jobs", ["state", "finished_at"]),
    ("ix_deliveries_state", "deliveries", ["state"]),
    ("ix_deliveries_sent_at", "deliveries", ["sent_at"]),
    ("ix_deliveries_peer_sent_at", "deliveries", ["peer", "sent_at"]),
    ("ix_audit_events_kind_at", "audit_events", ["kind", "at"]),
)


def upgrade() -> None:
    _access()
    for name, kind in _HEADLINE.items():
        op.add_column("studies", sa.Column(name, kind, nullable=False, server_default=""))
    word = sa.String(length=64).with_variant(sa.String(64, collation="C"), "postgresql")
    op.create_table(
        "study_words",
        sa.Column("word", word, nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("is_patient", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"]),
        sa.PrimaryKeyConstraint("word", "study_id", "is_patient"),
    )
    _fill()
    op.create_index("ix_study_words_study", "study_words", ["study_id", "word"])
    for name, table, columns in _INDEXES:
        op.create_index(name, table, columns)


def _access() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("subject", sa.String(length=512), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sa.UniqueConstraint("subject"),
    )
    op.create_table(
        "web_sessions",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("seen_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"]),
        sa.PrimaryKeyConstraint("token_hash"),
    )
    op.create_index("ix_web_sessions_user_id", "web_sessions", ["user_id"])
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("label", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("last_used_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("token_hash"),
    )
    op.create_index("ix_api_tokens_user_id", "api_tokens", ["user_id"])
    op.create_table(
        "login_attempts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("name_hash", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_login_attempts_name", "login_attempts", ["name_hash", "at"])
    op.create_index("ix_login_attempts_address", "login_attempts", ["address", "at"])
    op.create_table(
        "setup_tokens",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("token_hash"),
    )


def _fill() -> None:
    """Studies that are there already get their headline and their words."""
    studies = sa.table(
        "studies",
        sa.column("id", sa.Integer()),
        *(sa.column(name, kind) for name, kind in _HEADLINE.items()),
    )
    instances = sa.table(
        "instances",
        sa.column("id", sa.Integer()),
        sa.column("study_id", sa.Integer()),
        sa.column("sender", sa.String()),
        sa.column("attributes", sa.JSON()),
    )
    words = sa.table(
        "study_words",
        sa.column("word", sa.String()),
        sa.column("study_id", sa.Integer()),
        sa.column("is_patient", sa.Boolean()),
    )
    connection = op.get_bind()
    first = sa.select(sa.func.min(instances.c.id)).group_by(instances.c.study_id)
    last = 0
    while True:
        rows = connection.execute(
            sa.select(
                instances.c.id, instances.c.study_id, instances.c.sender, instances.c.attributes
            )
            .where(instances.c.id.in_(first), instances.c.id > last)
            .order_by(instances.c.id)
            .limit(_BATCH)
        ).all()
        if not rows:
            return
        last = rows[-1].id
        for row in rows:
            line = headline(row.attributes)
            values = {name: getattr(line, name) for name in _HEADLINE if name != "sender"}
            connection.execute(
                studies.update()
                .where(studies.c.id == row.study_id)
                .values(**values, sender=row.sender)
            )
            found = [
                {"word": word, "study_id": row.study_id, "is_patient": is_patient}
                for word, is_patient in sorted(words_of(line))
            ]
            if found:
                connection.execute(words.insert(), found)


def downgrade() -> None:
    for name, table, _ in reversed(_INDEXES):
        op.drop_index(name, table_name=table)
    op.drop_table("study_words")
    for name in _HEADLINE:
        op.drop_column("studies", name)
    for table in ("setup_tokens", "login_attempts", "api_tokens", "web_sessions", "users"):
        op.drop_table(table)
