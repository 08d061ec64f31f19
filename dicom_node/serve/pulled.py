"""Instances that we pull go to the spool in the same way as those that come by themselves."""

from __future__ import annotations

from dicom_node.config import NodeConfig
from dicom_node.receive.policy import Caller
from dicom_node.receive.storing import Receipt, StoreRequest
from dicom_node.retrieve import Incoming
from dicom_node.serve.receiving import receiver_settings
from dicom_node.store.spool import Spool


class SpoolStorage:
    """Takes instances of one peer; see retrieve.found.Storage.

    Args:
        sender: As whose they are known (`peers.sender_of`); routes may ask for it.
    """

    def __init__(self, config: NodeConfig, spool: Spool, sender: str) -> None:
        self._settings = receiver_settings(config)
        self._spool = spool
        self._caller = Caller(sender, self._settings.ae_titles[0], "")

    def begin(self, incoming: Incoming) -> Receipt:
        request = StoreRequest(
            sop_class_uid=incoming.sop_class_uid,
            sop_instance_uid=incoming.sop_instance_uid,
            abstract_syntax=incoming.sop_class_uid,
            transfer_syntax=incoming.transfer_syntax,
        )
        return Receipt(self._caller, request, self._spool, self._settings)
