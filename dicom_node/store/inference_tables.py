"""The tables of the engine: whose turn it is, and which pipelines passed their self-test."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from dicom_node.store.tables import Base


class SenderTurn(Base):
    """When a sender's job was claimed last, as a count of claims."""

    __tablename__ = "sender_turns"

    sender: Mapped[str] = mapped_column(String(16), primary_key=True)
    turn: Mapped[int]


class PipelineTest(Base):
    """The last self-test of a pipeline; jobs of one that failed wait until it passes.

    Attributes:
        version, weights_sha256: Of the pipeline that was tested.
        why: What differed; "" when it passed.
    """

    __tablename__ = "pipeline_tests"

    pipeline: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[str] = mapped_column(String(64))
    weights_sha256: Mapped[str] = mapped_column(String(64))
    tested_at: Mapped[datetime]
    passed: Mapped[bool]
    why: Mapped[str] = mapped_column(Text)
