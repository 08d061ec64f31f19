"""Messages from fragments: whole ones are answered, broken ones end the association."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_node.model.events import ReceiveEvent
from dicom_node.receive.desk import Desk
from dicom_node.receive.messages import AcceptedContext, Line, Messages
from dicom_node.receive.policy import Caller
from dicom_node.receive.settings import ReceiverSettings
from dicom_node.receive.wire import ProtocolError
from dicom_node.store.spool import Spool
from tests.factories import ManualClock
from tests.unit.receive.encoded import CT, EXPLICIT, SOP, command, data_set, pdu, pdv
from tests.unit.receive.test_command import understood_by_pynetdicom

IMAGES, ECHO = 1, 3
CONTEXTS = {
    IMAGES: AcceptedContext(CT, EXPLICIT, is_storage=True),
    ECHO: AcceptedContext("1.2.840.10008.1.1", EXPLICIT, is_storage=False),
}


class Conversation:
    """The messages of one association, with what went out."""

    def __init__(self, desk: Desk) -> None:
        self.sent: list[bytes] = []
        self.others: list[tuple[int, bytes]] = []
        line = Line(16384, self.sent.append, lambda *piece: self.others.append(piece))
        self.messages = Messages(desk, Caller("XR", "AINODE", "127.0.0.1"), CONTEXTS, line)

    def take(self, *pdus: bytes) -> None:
        for one in pdus:
            self.messages.take(memoryview(one))

    def statuses(self) -> list[int]:
        return [int(understood_by_pynetdicom(one).Status) for one in self.sent]


@pytest.fixture
def conversation(desk: Desk) -> Conversation:
    return Conversation(desk)


def unfinished(spool: Spool) -> list[Path]:
    return [file for file in spool.root.glob("incoming/*/*") if file.stat().st_size]


def test_an_image_in_one_pdu_is_kept_and_answered(conversation: Conversation, spool: Spool) -> None:
    body = data_set()
    conversation.take(pdu(pdv(IMAGES, 3, command()), pdv(IMAGES, 2, body)))
    assert conversation.statuses() == [0]
    (file,) = spool.waiting()
    assert file.read_bytes().endswith(body)


@given(data=st.data())
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_an_image_in_any_fragments_is_kept_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool"))
    told: list[ReceiveEvent] = []
    chosen = ReceiverSettings(ae_titles=("AINODE",), promiscuous=True)
    conversation = Conversation(Desk(chosen, spool, told.append, ManualClock()))
    body, order = data_set(), command()

    def pieces(whole: bytes, control: int) -> list[bytes]:
        cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=6)))
        spans = list(zip([0, *cuts], [*cuts, len(whole)], strict=True))
        return [
            pdv(IMAGES, control | (2 if stop == len(whole) else 0), whole[start:stop])
            for start, stop in spans
        ]

    fragments = pieces(order, 1) + pieces(body, 0)
    while fragments:
        number = data.draw(st.integers(1, len(fragments)))
        conversation.take(pdu(*fragments[:number]))
        del fragments[:number]
    assert conversation.statuses() == [0]
    (file,) = spool.waiting()
    assert file.read_bytes().endswith(body)
    assert told == []


def test_several_images_one_after_the_other(conversation: Conversation, spool: Spool) -> None:
    for number in range(3):
        sop = f"1.2.9.{number}"
        conversation.take(
            pdu(pdv(IMAGES, 3, command(sop=sop))), pdu(pdv(IMAGES, 2, data_set(sop=sop)))
        )
    assert conversation.statuses() == [0, 0, 0]
    assert len(spool.waiting()) == 3


def test_an_image_without_a_data_set_is_refused(conversation: Conversation) -> None:
    conversation.take(pdu(pdv(IMAGES, 3, command(has_data_set=False))))
    assert conversation.statuses() == [0xC000]


def test_another_class_than_was_negotiated_is_refused_after_its_data_set(
    conversation: Conversation, spool: Spool, events: list[ReceiveEvent]
) -> None:
    other = "1.2.840.10008.5.1.4.1.1.4"
    conversation.take(pdu(pdv(IMAGES, 3, command(sop_class=other))))
    assert conversation.sent == []
    conversation.take(pdu(pdv(IMAGES, 0, data_set()[:50])), pdu(pdv(IMAGES, 2, data_set()[50:])))
    assert conversation.statuses() == [0x0122]
    assert spool.waiting() == []
    assert events[0].status == 0x0122


def test_no_patient_data_is_told_of_a_refused_image(
    conversation: Conversation, events: list[ReceiveEvent]
) -> None:
    conversation.take(
        pdu(pdv(IMAGES, 3, command())), pdu(pdv(IMAGES, 2, data_set(StudyInstanceUID=None)))
    )
    (event,) = events
    assert event.status == 0xC000
    assert event.sop_instance_uid == SOP
    assert "Secret" not in repr(event)
    assert "Secret" not in str(understood_by_pynetdicom(conversation.sent[0]).ErrorComment)


def test_an_echo_goes_to_the_other_services(conversation: Conversation) -> None:
    echo = command(field=0x30, sop_class="1.2.840.10008.1.1", has_data_set=False)
    conversation.take(pdu(pdv(ECHO, 1, echo[:20]), pdv(ECHO, 3, echo[20:])))
    assert conversation.others == [(ECHO, b"\x01" + echo[:20]), (ECHO, b"\x03" + echo[20:])]
    assert not conversation.messages.in_hand


def test_breaking_off_leaves_no_file(conversation: Conversation, spool: Spool) -> None:
    conversation.take(pdu(pdv(IMAGES, 3, command()), pdv(IMAGES, 0, data_set()[:50])))
    assert conversation.messages.in_hand
    assert len(unfinished(spool)) == 1
    conversation.messages.abandon()
    assert unfinished(spool) == []
    assert not conversation.messages.in_hand


@pytest.mark.parametrize(
    ("pdus", "reason"),
    [
        ([pdu(pdv(5, 3, command()))], "not accepted"),
        ([pdu(pdv(IMAGES, 2, b"data"))], "out of order"),
        ([pdu(pdv(IMAGES, 3, command()), pdv(IMAGES, 3, command()))], "out of order"),
        ([pdu(pdv(IMAGES, 1, command()[:9]), pdv(ECHO, 3, b""))], "changed the presentation"),
        ([pdu(pdv(IMAGES, 3, b"nonsense"))], "command set"),
        ([pdu(pdv(IMAGES, 3, b""))], "command set"),
        ([pdu(pdv(IMAGES, 3, command(field=0x20)))], "something else than C-STORE"),
        ([pdu(b"\0\0\0")], "without its length"),
        ([pdu(b"\0\0\0\x01\x01\x03")], "does not fit"),
        ([pdu(b"\0\0\1\0\x01\x03")], "does not fit"),
        ([pdu(pdv(IMAGES, 1, bytes(60_000)))] * 2, "without end"),
        ([pdu(pdv(ECHO, 1, bytes(900_000)))] * 6, "without end"),
    ],
)
def test_what_breaks_the_protocol_is_found_out(
    conversation: Conversation, spool: Spool, pdus: list[bytes], reason: str
) -> None:
    with pytest.raises(ProtocolError, match=reason):
        conversation.take(*pdus)
    conversation.messages.abandon()
    assert unfinished(spool) == []


GOOD = pdu(pdv(IMAGES, 3, command()), pdv(IMAGES, 0, data_set()[:80]))
REST = pdu(pdv(IMAGES, 2, data_set()[80:]))


@given(st.lists(st.tuples(st.integers(6, len(GOOD) - 1), st.integers(0, 255)), max_size=4))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_changed_bytes_are_answered_or_found_out(
    make_desk: Callable[..., Desk], spool: Spool, changes: list[tuple[int, int]]
) -> None:
    conversation = Conversation(make_desk())
    hurt = bytearray(GOOD)
    for at, value in changes:
        hurt[at] = value
    with contextlib.suppress(ProtocolError):
        conversation.take(bytes(hurt), REST)
    conversation.messages.abandon()
    assert unfinished(spool) == []
