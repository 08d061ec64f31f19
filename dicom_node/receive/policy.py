"""Who may associate with us, and how many at a time."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dicom_node.receive.settings import ReceiverSettings

_PERMANENT: Final = 1
_TRANSIENT: Final = 2
_SERVICE_USER: Final = 1
_PRESENTATION: Final = 3
_CALLING_NOT_RECOGNISED: Final = 3
_CALLED_NOT_RECOGNISED: Final = 7
_LOCAL_LIMIT_EXCEEDED: Final = 2


@dataclass(frozen=True, slots=True)
class Caller:
    """The other side of an association.

    Attributes:
        calling_ae: Empty when it did not say.
        certified: It showed a client certificate that was verified.
    """

    calling_ae: str
    called_ae: str
    address: str
    certified: bool = False


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an association is rejected, as A-ASSOCIATE-RJ says it (PS3.8 Table 9-21).

    Attributes:
        reason: For the person who has to mend it.
    """

    result: int
    source: int
    diagnostic: int
    reason: str


class Door:
    """Decides about each association, and counts those that are in. Safe for threads."""

    def __init__(self, settings: ReceiverSettings) -> None:
        self._inside: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.change(settings)

    def change(self, settings: ReceiverSettings) -> None:
        """Decide by other settings from now on; who is in stays in."""
        hosts: dict[str, list[str]] = {}
        for peer in settings.peers.values():
            hosts.setdefault(peer.ae_title, []).append(peer.host)
        self._rules = (settings, hosts)

    @property
    def inside(self) -> int:
        """The number of associations that are in."""
        with self._lock:
            return self._inside.total()

    def enter(self, caller: Caller) -> Rejection | None:
        """Let an association in, to be followed by `leave`; or say why not."""
        settings, hosts = self._rules
        rejection = _unknown(caller, settings, hosts)
        if rejection is not None:
            return rejection
        with self._lock:
            if self._inside.total() >= settings.max_associations:
                return _busy(
                    f"all {settings.max_associations} associations are in use "
                    "(raise `node.max_associations`, or let senders close theirs)"
                )
            limit = settings.max_associations_per_peer
            if limit and self._inside[caller.calling_ae] >= limit:
                return _busy(
                    f"the caller has {limit} associations already "
                    "(raise `receive.max_associations_per_peer`, or let it close them)"
                )
            self._inside[caller.calling_ae] += 1
        return None

    def leave(self, caller: Caller) -> None:
        """Note that an association which was let in has ended."""
        with self._lock:
            self._inside[caller.calling_ae] -= 1
            if self._inside[caller.calling_ae] <= 0:
                del self._inside[caller.calling_ae]


def _unknown(
    caller: Caller, settings: ReceiverSettings, hosts: Mapping[str, list[str]]
) -> Rejection | None:
    if caller.called_ae not in settings.ae_titles:
        titles = ", ".join(settings.ae_titles)
        return Rejection(
            _PERMANENT,
            _SERVICE_USER,
            _CALLED_NOT_RECOGNISED,
            f"called AE title not recognised (we are called {titles}; correct the sender)",
        )
    if caller.calling_ae in settings.certified_peers and not caller.certified:
        return _unrecognised(
            "this calling AE title is let in only by TLS with its client certificate"
        )
    if settings.promiscuous:
        return None
    known = hosts.get(caller.calling_ae)
    if known is None:
        blank = "" if caller.calling_ae else ": it is blank"
        return _unrecognised(
            f"calling AE title not recognised{blank} (add it to `peers` and `accept_from`)"
        )
    if settings.check_addresses and not _is_one_of(caller.address, known):
        return _unrecognised(
            "the calling AE title is known, but not from this address "
            "(correct its `host` in `peers`)"
        )
    return None


def _unrecognised(reason: str) -> Rejection:
    return Rejection(_PERMANENT, _SERVICE_USER, _CALLING_NOT_RECOGNISED, reason)


def _busy(reason: str) -> Rejection:
    return Rejection(_TRANSIENT, _PRESENTATION, _LOCAL_LIMIT_EXCEEDED, reason)


def _is_one_of(address: str, hosts: list[str]) -> bool:
    for host in hosts:
        try:
            known = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
        except OSError:
            continue  # a name that does not resolve admits nobody
        if address in known:
            return True
    return False
