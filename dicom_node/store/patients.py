"""Whose images a study holds: one that names another patient is told, and the study held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.model import patient
from dicom_node.model.instances import InstanceFacts
from dicom_node.model.own_output import is_own_output
from dicom_node.model.states import HoldReason
from dicom_node.store import audit, held
from dicom_node.store.tables import Instance, Study


def compare_with_first_content(
    session: Session, facts: InstanceFacts, now: datetime, *, hold: bool
) -> None:
    """Other content came under a known UID: is it the patient that was corrected?"""
    first = session.scalars(
        select(Instance).where(Instance.sop_instance_uid == facts.sop_instance_uid)
    ).one_or_none()
    if first is None or first.study.study_instance_uid != facts.study_instance_uid:
        return  # both came in one batch; or one UID in two studies, which says nothing of either
    keywords = patient.changed(first.attributes, facts.attributes)
    if keywords:
        _another_patient(session, first.study, facts, keywords, now, hold=hold)


def compare_with_study(
    session: Session,
    study: Study,
    facts: InstanceFacts,
    now: datetime,
    known: dict[str, Mapping[str, Any]],
    *,
    hold: bool,
) -> None:
    """A new image: does it name the patient whom the study's images name?

    Our own objects come back from a PACS with whatever it has made of their patient.

    Args:
        known: Header values of the first image of each study that was asked about.
    """
    if is_own_output(facts.attributes):
        return
    uid = study.study_instance_uid
    if uid not in known:
        first = session.scalar(
            select(Instance).where(Instance.study_id == study.id).order_by(Instance.id).limit(1)
        )
        known[uid] = first.attributes if first else facts.attributes
    keywords = patient.changed(known[uid], facts.attributes)
    if not keywords:
        return
    session.flush()
    others = session.scalars(select(Instance.attributes).where(Instance.study_id == study.id))
    # a person may have let a study go on that names two
    if all(patient.changed(attributes, facts.attributes) for attributes in others):
        _another_patient(session, study, facts, keywords, now, hold=hold)


def _another_patient(
    session: Session,
    study: Study,
    facts: InstanceFacts,
    keywords: Sequence[str],
    now: datetime,
    *,
    hold: bool,
) -> None:
    if hold:
        names = ", ".join(keywords)
        held.hold(
            session,
            study,
            HoldReason.CHANGED_PATIENT,
            f"an image from {facts.sender or 'a sender'} differs from those before in {names}",
            now,
            sop_instance_uid=facts.sop_instance_uid,
            attributes=list(keywords),
        )
        return
    audit.record(
        session,
        now,
        "patient_changed",
        study_uid=study.study_instance_uid,
        peer=facts.sender,
        sop_instance_uid=facts.sop_instance_uid,
        attributes=list(keywords),
    )
