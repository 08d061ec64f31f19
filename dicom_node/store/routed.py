"""Studies that routing has seen: to let other routes decide about them again."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.store.tables import Study


def last_routed(session: Session, number: int) -> list[tuple[int, str]]:
    """Return id and UID of the last studies that routing has decided about, newest first."""
    rows = session.execute(
        select(Study.id, Study.study_instance_uid)
        .where(Study.routed_revision > 0)
        .order_by(Study.id.desc())
        .limit(number)
    )
    return [(study_id, uid) for study_id, uid in rows]


def study_id_of(session: Session, study_uid: str) -> int | None:
    """Return the id of a study; None: it is not in the index."""
    return session.scalar(select(Study.id).where(Study.study_instance_uid == study_uid))
