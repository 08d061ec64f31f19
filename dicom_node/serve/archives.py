"""A peer of `node.yaml` to ask and to pull from, by C-MOVE, C-GET or DICOMweb."""

from __future__ import annotations

from functools import partial
from typing import Final

from dicom_node.config import NodeConfig
from dicom_node.delivery.web_auth import authorization
from dicom_node.errors import ConfigError
from dicom_node.model.peers import WebPeer, sender_of
from dicom_node.requestor import ScuSettings
from dicom_node.retrieve import (
    Archive,
    Catalogue,
    Finder,
    GetArchive,
    Line,
    MoveArchive,
    Web,
    WebArchive,
    WebFinder,
)
from dicom_node.serve.pulled import SpoolStorage
from dicom_node.store.spool import Spool

_SOON: Final = 10.0


def archive_of(config: NodeConfig, name: str, spool: Spool) -> Archive:
    """Return a peer that studies are pulled from, by its `retrieve` or its `url`.

    Raises:
        ConfigError: The peer would send to us by C-MOVE, and we would not let it in.
    """
    peer = config.peers[name]
    if isinstance(peer, WebPeer):
        web = Web(name, peer, partial(authorization, peer))
        return WebArchive(web, SpoolStorage(config, spool, sender_of(name, peer)))
    us = config.node.ae_title[0]
    line = Line(name, peer, ScuSettings(us))
    if peer.retrieve == "get":
        return GetArchive(line, SpoolStorage(config, spool, sender_of(name, peer)))
    if not config.anyone_may_send and name not in config.accept_from:
        raise ConfigError(
            f"peer {name}",
            "by C-MOVE it would send to us, and `accept_from` does not name it",
            f"add {name} to `accept_from`, or set `peers.{name}.retrieve: get`",
        )
    return MoveArchive(line, us)


def catalogue_of(config: NodeConfig, name: str) -> Catalogue:
    """Return a peer that is only asked, and has to answer within seconds."""
    peer = config.peers[name]
    if isinstance(peer, WebPeer):
        return WebFinder(Web(name, peer, partial(authorization, peer), timeout=_SOON))
    us = config.node.ae_title[0]
    settings = ScuSettings(us, connect_timeout=_SOON / 2, acse_timeout=_SOON, dimse_timeout=_SOON)
    return Finder(Line(name, peer, settings))
