"""C-GET: the images come over the association of the request (PS3.4 section C.4.3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import build_context, build_role

from dicom_node.retrieve.calling import GET, PULL_TIMEOUT, Line, end
from dicom_node.retrieve.classes import storage_classes, storage_contexts
from dicom_node.retrieve.find import Finder
from dicom_node.retrieve.found import FoundSeries, Incoming, Pulled, Storage
from dicom_node.retrieve.operations import ending, request, together
from dicom_node.retrieve.taking import take


class GetArchive(Finder):
    """A peer that sends by C-GET: it need not know our host and port, and our receiver may rest."""

    def __init__(self, line: Line, storage: Storage) -> None:
        super().__init__(line)
        self._storage = storage

    def pull(self, study_uid: str, series: Iterable[FoundSeries]) -> Pulled:
        wanted = list(series)
        modalities = {item.modality for item in wanted}
        association: Association | None = None
        parts = []
        try:
            for item in wanted:
                # some peers end the association with the first series
                if association is None or not association.is_established:
                    association = self._open(modalities)
                keys = request(study_uid, item.series_instance_uid)
                parts.append(self._get(association, keys))
        finally:
            if association is not None:
                end(association)
        return together(parts)

    def _open(self, modalities: set[str]) -> Association:
        association = self._line.open(
            [build_context(GET), *storage_contexts(modalities)],
            roles=[build_role(uid, scp_role=True) for uid in storage_classes(modalities)],
            handlers=[(evt.EVT_C_STORE, self._take)],
        )
        association.dimse_timeout = PULL_TIMEOUT
        return association

    def _get(self, association: Association, keys: Dataset) -> Pulled:
        self._line.check(association, GET, "C-GET")
        pulled = ending(self._line.ask("C-GET", lambda: association.send_c_get(keys, GET)))
        if pulled is None:
            self._line.lost("C-GET")
        return pulled

    def _take(self, event: evt.Event) -> int:
        asked = cast(C_STORE, event.request)
        incoming = Incoming(
            str(asked.AffectedSOPClassUID),
            str(asked.AffectedSOPInstanceUID),
            str(event.context.transfer_syntax),
        )
        data = asked.DataSet.getbuffer() if asked.DataSet else b""
        return take(self._storage, incoming, [data], self._line.name)
