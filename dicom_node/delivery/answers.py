"""What is to be sent, what became of it, and what every kind of delivery implements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, Protocol

from pynetdicom.status import code_to_category


class Verdict(Enum):
    """What an attempt means for the outbox."""

    SENT = "sent"
    TRY_AGAIN = "try again"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One object to send; `transfer_syntax_uid` None: the file tells.

    Attributes:
        alternatives: The same in other SOP classes, best first, for a peer that does not accept
            this one; only one of them all is sent.
    """

    id: int
    file: Path
    sop_class_uid: str
    transfer_syntax_uid: str | None = None
    alternatives: tuple[Outgoing, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of one attempt, and what the peer (or the network) said.

    Attributes:
        sop_class_uid: That of the form that was sent, where there was a choice.
        away: The peer could not be reached at all: nothing is known of the object itself.
        seconds: From the request to the peer's answer; None: nobody measured it.
    """

    id: int
    verdict: Verdict
    text: str
    sop_class_uid: str | None = None
    away: bool = False
    seconds: float | None = None


class Destination(Protocol):
    """One peer, whatever it speaks: a kind of delivery is a class with these two methods.

    Contract: neither raises for what a peer, the network or a file named in `node.yaml` may do;
    that is an answer. Each may take as long as its own time-outs, as every peer has a thread of
    its own. The same object may come twice (a crash between answer and record): its UID must
    make the second one no new object.
    """

    def send(self, objects: Sequence[Outgoing]) -> Iterator[Answer]:
        """Send objects; yields one answer for each as soon as it is known, in any order.

        `Verdict.SENT` only after the peer has said that it has stored the object.
        """
        ...

    def check(self) -> str | None:
        """Ask whether the peer is there without changing anything; None: yes, else why not."""
        ...


_STORED: Final = frozenset({0x0000, 0xB000, 0xB006, 0xB007})
"""Success and the warnings "coercion of data elements", "elements discarded" and "data set does
not match SOP class": the peer has it (PS3.4 Table B.2-1)."""


DUPLICATE: Final = 0x0111
"""Duplicate SOP Instance (PS3.7 annex C): it has this object already, as after a crash between its
answer and our record. Our UIDs are derived from what is in an object, so it is the same one."""


def verdict_of(status: int) -> Verdict:
    """Return what a status of the storage service means (PS3.4 Table B.2-1)."""
    if status in _STORED or status == DUPLICATE:
        return Verdict.SENT
    # 0xA9xx: data set does not match SOP class; the same object will not do so later
    return Verdict.NEVER if status & 0xFF00 == 0xA900 else Verdict.TRY_AGAIN


def status_text(status: int | None, comment: str = "") -> str:
    """Say a status in words; None: there was no answer."""
    if status is None:
        return "no answer: timed out or the connection broke"
    meaning = code_to_category(status)
    if status == DUPLICATE:
        meaning = "Warning: it has an object of this UID already"
    text = f"status 0x{status:04X} ({meaning})"
    return f"{text}: {comment}" if comment else text
