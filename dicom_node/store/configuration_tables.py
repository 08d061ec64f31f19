"""The tables of configurations: what was applied, and how each reload went."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from dicom_node.store.tables import Base


class AppliedConfiguration(Base):
    """A text that `node.yaml` has had.

    Attributes:
        by: Who wrote it.
        digest: SHA-256 of the text.
    """

    __tablename__ = "configurations"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    by: Mapped[str] = mapped_column(String(128))
    why: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(String(64))
    text: Mapped[str] = mapped_column(Text)


class Reload(Base):
    """One time that a node was told to take `node.yaml` again.

    Attributes:
        host: The machine it runs on.
        taken: False: the file has mistakes, and the one before goes on.
        digest: SHA-256 of the file's text; None: it could not be read.
        problems: What is wrong with it.
        needs_restart: Changed keys that are taken at the next start only.
    """

    __tablename__ = "reloads"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    host: Mapped[str] = mapped_column(String(255))
    taken: Mapped[bool]
    digest: Mapped[str | None] = mapped_column(String(64))
    problems: Mapped[list[str]]
    needs_restart: Mapped[list[str]]
