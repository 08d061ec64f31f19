"""Other senders are let in while associations go on."""

from __future__ import annotations

from dataclasses import replace

from dicom_node.model.peers import Peer
from dicom_node.receive.policy import Caller, Door
from dicom_node.receive.settings import ReceiverSettings


def peer(title: str) -> Peer:
    return Peer(ae_title=title, host="127.0.0.1", port=104)


def test_who_is_in_stays_in_and_is_counted_on() -> None:
    settings = ReceiverSettings(("NODE",), peers={"a": peer("A")}, max_associations=1)
    door = Door(settings)
    a, b = Caller("A", "NODE", "127.0.0.1"), Caller("B", "NODE", "127.0.0.1")
    assert door.enter(a) is None
    door.change(replace(settings, peers={"b": peer("B")}))
    assert door.inside == 1
    busy = door.enter(b)
    assert busy is not None
    assert "in use" in busy.reason
    door.leave(a)
    assert door.enter(b) is None
    unknown = door.enter(a)
    assert unknown is not None
    assert "not recognised" in unknown.reason
