"""Who has seen whose study it is: written down each time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dicom_node.store import audit
from dicom_node.web.callers import Caller
from dicom_node.web.context import WebContext

_IN_ONE_EVENT: Final = 100
"""Studies: each event has to fit, as an audit message, into a datagram of UDP."""


def tell_patients_shown(context: WebContext, caller: Caller, study_uids: Sequence[str]) -> None:
    """Audit that the caller sees the patients of these studies; nothing when they are masked."""
    if not caller.sees_patients or not study_uids:
        return
    one = study_uids[0] if len(study_uids) == 1 else None
    with context.database.write() as session:
        for first in range(0, len(study_uids), _IN_ONE_EVENT):
            audit.record(
                session,
                context.clock.now(),
                "patients_shown",
                study_uid=one,
                by=caller.name,
                address=caller.address,
                studies=None if one else list(study_uids[first : first + _IN_ONE_EVENT]),
            )
