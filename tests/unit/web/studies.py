"""Studies in the index of a site, as if they had come."""

from __future__ import annotations

from dicom_node.model.instances import AttributeValue
from dicom_node.model.states import StudyState
from dicom_node.store import held, index
from tests.factories import facts
from tests.unit.web.conftest import WebSite


def came(web: WebSite, number: int = 1, *, sender: str = "XR", **attributes: AttributeValue) -> str:
    """Index a study of one image; returns its UID."""
    uid = f"1.2.840.{number}"
    given = {"PatientName": f"Doe{number}^Jane", "PatientID": f"P{number}", **attributes}
    item = facts(study=uid, series=f"{uid}.1", sop=f"{uid}.1.1", sender=sender, **given)
    with web.database.write() as session:
        now = web.clock.now()
        index.add_instance(session, index.Arrival(item, f"{uid}.dcm", "0" * 64, now), now)
    return uid


def settled(web: WebSite, number: int = 1, **attributes: AttributeValue) -> str:
    """The same, and no more images come."""
    uid = came(web, number, **attributes)
    with web.database.write() as session:
        study = held.find(session, uid)
        study.state = StudyState.SETTLED
        study.settled_at = web.clock.now()
        study.revision = 1
    return uid
