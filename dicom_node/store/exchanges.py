"""What peers were asked, and asked us: rows that outlive their study, and have to go as well."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

from sqlalchemy import CursorResult, delete, select
from sqlalchemy.orm import Session

from dicom_node.model.commitment import CommitmentState
from dicom_node.store.tables import AskedCommitment, Commitment, Delivery, Retrieval, Study


def forget(session: Session, before: datetime) -> int:
    """Delete what peers were asked, and asked us, before a time, where nothing waits for it.

    Returns:
        The number of rows.
    """
    known = select(Study.study_instance_uid)
    # NULL among them would make every NOT IN unknown
    asked = select(Delivery.transaction_uid).where(Delivery.transaction_uid.is_not(None))
    ended = (CommitmentState.REPORTED, CommitmentState.FAILED)
    gone = 0
    for statement in (
        delete(Retrieval).where(
            Retrieval.begun_at < before, Retrieval.study_instance_uid.not_in(known)
        ),
        delete(Commitment).where(Commitment.requested_at < before, Commitment.state.in_(ended)),
        delete(AskedCommitment).where(
            AskedCommitment.requested_at < before, AskedCommitment.transaction_uid.not_in(asked)
        ),
    ):
        done = session.execute(statement.execution_options(synchronize_session=False))
        gone += cast("CursorResult[Any]", done).rowcount
    return gone
