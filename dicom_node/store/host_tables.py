"""The table of hosts that each have a data folder of their own."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from dicom_node.store.tables import Base


class Host(Base):
    """A host that keeps files: what was received there, and objects that were made there.

    Attributes:
        folder: Which data folder it has; another one under the same name is a mistake.
        address: HOST:PORT where its files are served.
        heard_at: When it was heard of last.
        indexed_to: What it acknowledged before this time is in the index.
        state: What was seen there (`dicom_node.store.hosts.HostState`).
    """

    __tablename__ = "hosts"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    folder: Mapped[str] = mapped_column(String(32))
    address: Mapped[str] = mapped_column(Text)
    heard_at: Mapped[datetime]
    indexed_to: Mapped[datetime]
    state: Mapped[dict[str, Any]]
