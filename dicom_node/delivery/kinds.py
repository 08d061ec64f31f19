"""Which kind of delivery a peer of `node.yaml` takes."""

from __future__ import annotations

from dicom_node.delivery.answers import Destination
from dicom_node.delivery.scu import CStore
from dicom_node.delivery.stow import StowRs
from dicom_node.model.peers import AnyPeer, Peer
from dicom_node.requestor import ScuSettings


def destination_for(settings: ScuSettings, peer: AnyPeer) -> Destination:
    """Return what sends to a peer; another kind of delivery is added here."""
    return CStore(settings, peer) if isinstance(peer, Peer) else StowRs(peer)
