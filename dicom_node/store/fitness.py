"""Which pipelines passed their self-test; the jobs of one that did not are left waiting."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.store import audit
from dicom_node.store.inference_tables import PipelineTest


def record(
    session: Session,
    pipeline: str,
    version: str,
    weights_sha256: str,
    differs: Sequence[str],
    now: datetime,
) -> bool:
    """Record a self-test; returns whether the pipeline's jobs may run.

    A change is told in the audit trail: `pipeline_disabled` and `pipeline_enabled`.

    Args:
        differs: What was not as it should be; empty: it passed.
    """
    known = session.get(PipelineTest, pipeline)
    passed = not differs
    why = "; ".join(differs)
    was_fit = known is None or known.passed
    row = known or PipelineTest(pipeline=pipeline)
    row.version, row.weights_sha256 = version, weights_sha256
    row.tested_at, row.passed, row.why = now, passed, why
    session.add(row)
    if passed != was_fit:
        kind = "pipeline_enabled" if passed else "pipeline_disabled"
        more: dict[str, Any] = {} if passed else {"why": why}
        audit.record(session, now, kind, pipeline=pipeline, version=version, **more)
    return passed


def unfit(session: Session) -> dict[str, str]:
    """Return the pipelines that failed their self-test, with the reason."""
    rows = session.execute(
        select(PipelineTest.pipeline, PipelineTest.why)
        .where(PipelineTest.passed.is_(False))
        .order_by(PipelineTest.pipeline)
    ).all()
    return {row.pipeline: row.why for row in rows}


def forget(session: Session, pipeline: str) -> None:
    """Let a pipeline without a golden input run: an older version of it may have had one."""
    known = session.get(PipelineTest, pipeline)
    if known is not None:
        session.delete(known)
