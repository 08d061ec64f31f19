"""Who may come in."""

from __future__ import annotations

import pytest

from dicom_node.model.peers import Peer
from dicom_node.receive.policy import Caller, Door
from dicom_node.receive.settings import ReceiverSettings

PEERS = {
    "xr": Peer(ae_title="XR", host="127.0.0.1", port=104),
    "xr-too": Peer(ae_title="XR", host="localhost", port=104),
    "ct": Peer(ae_title="CT", host="192.0.2.7", port=104),
    "gone": Peer(ae_title="GONE", host="no-such-host.invalid", port=104),
}


def door(**settings: object) -> Door:
    return Door(ReceiverSettings(**{"ae_titles": ("AINODE", "OLD"), "peers": PEERS, **settings}))


def caller(calling: str = "XR", called: str = "AINODE", address: str = "127.0.0.1") -> Caller:
    return Caller(calling, called, address)


@pytest.mark.parametrize("called", ["AINODE", "OLD"])
def test_a_known_caller_of_one_of_our_titles_comes_in(called: str) -> None:
    assert door().enter(caller(called=called)) is None


def test_a_wrong_called_title_is_rejected_for_good() -> None:
    rejection = door().enter(caller(called="OTHER"))
    assert rejection is not None
    # PS3.8 Table 9-21: permanent, service user, called AE title not recognised
    assert (rejection.result, rejection.source, rejection.diagnostic) == (1, 1, 7)
    assert "we are called AINODE, OLD" in rejection.reason


@pytest.mark.parametrize("calling", ["STRANGER", "xr", ""])
def test_an_unknown_or_blank_caller_is_rejected_for_good(calling: str) -> None:
    rejection = door().enter(caller(calling))
    assert rejection is not None
    assert (rejection.result, rejection.source, rejection.diagnostic) == (1, 1, 3)


def test_nobody_comes_in_when_no_peer_is_given() -> None:
    assert door(peers={}).enter(caller()) is not None


@pytest.mark.parametrize("calling", ["STRANGER", ""])
def test_anyone_comes_in_by_an_explicit_word(calling: str) -> None:
    assert door(peers={}, promiscuous=True).enter(caller(calling)) is None


def test_a_known_title_from_another_address_is_rejected_where_that_is_checked() -> None:
    assert door().enter(caller("CT")) is None
    strict = door(check_addresses=True)
    assert strict.enter(caller("XR")) is None
    rejection = strict.enter(caller("CT"))
    assert rejection is not None
    assert rejection.diagnostic == 3
    assert "not from this address" in rejection.reason
    assert strict.enter(caller("GONE")) is not None


def test_more_associations_than_allowed_are_rejected_for_the_time_being() -> None:
    two = door(max_associations=2)
    assert two.enter(caller("XR")) is None
    assert two.enter(caller("CT")) is None
    rejection = two.enter(caller("XR"))
    assert rejection is not None
    # transient, presentation, local limit exceeded
    assert (rejection.result, rejection.source, rejection.diagnostic) == (2, 3, 2)
    two.leave(caller("CT"))
    assert two.enter(caller("XR")) is None
    assert two.inside == 2


def test_one_peer_cannot_take_every_place() -> None:
    few = door(max_associations=10, max_associations_per_peer=1)
    assert few.enter(caller("XR")) is None
    assert few.enter(caller("XR")) is not None
    assert few.enter(caller("CT")) is None
    few.leave(caller("XR"))
    assert few.enter(caller("XR")) is None
