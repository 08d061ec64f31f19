"""Command sets: read and written as pynetdicom writes and reads them."""

from __future__ import annotations

import contextlib
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ, C_STORE_RSP, DIMSEMessage
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.pdu import P_DATA_TF

from dicom_node.receive.command import (
    Command,
    CommandError,
    command_pdus,
    read_command,
    store_response,
)

CT = "1.2.840.10008.5.1.4.1.1.2"


def encoded_by_pynetdicom(message: DIMSEMessage, primitive: C_STORE | C_ECHO) -> bytes:
    message.primitive_to_message(primitive)
    first = next(iter(message.encode_msg(1, 0)))
    return bytes(first.presentation_data_value_list[0][1][1:])


def test_a_store_request_is_read() -> None:
    primitive = C_STORE()
    primitive.MessageID = 7
    primitive.AffectedSOPClassUID = CT
    primitive.AffectedSOPInstanceUID = "1.2.3"
    primitive.Priority = 2
    primitive.DataSet = BytesIO(b"data")
    command = read_command(encoded_by_pynetdicom(C_STORE_RQ(), primitive))
    assert command == Command(1, 7, True, CT, "1.2.3")


def test_an_echo_request_is_read_as_having_no_data_set() -> None:
    primitive = C_ECHO()
    primitive.MessageID = 1
    primitive.AffectedSOPClassUID = "1.2.840.10008.1.1"
    command = read_command(encoded_by_pynetdicom(C_ECHO_RQ(), primitive))
    assert (command.field, command.has_data_set) == (0x0030, False)


def understood_by_pynetdicom(pdus: bytes) -> C_STORE:
    message = DIMSEMessage()
    position = 0
    while position < len(pdus):
        length = 6 + int.from_bytes(pdus[position + 2 : position + 6], "big")
        pdu = P_DATA_TF()
        pdu.decode(pdus[position : position + length])
        whole = message.decode_msg(pdu.to_primitive())
        position += length
    assert whole
    assert isinstance(message, C_STORE_RSP)
    primitive = message.message_to_primitive()
    assert isinstance(primitive, C_STORE)
    return primitive


@pytest.mark.parametrize("max_length", [0, 16384, 64, 7])
def test_a_response_is_what_pynetdicom_reads(max_length: int) -> None:
    request = Command(1, 7, True, CT, "1.2.3")
    response = store_response(request, 0xA700, "disk: " + "x" * 100)
    answer = understood_by_pynetdicom(command_pdus(response, 3, max_length))
    assert answer.is_valid_response
    assert answer.Status == 0xA700
    assert answer.MessageIDBeingRespondedTo == 7
    assert answer.AffectedSOPClassUID == CT
    assert answer.AffectedSOPInstanceUID == "1.2.3"
    assert answer.ErrorComment == ("disk: " + "x" * 100)[:64]


def test_no_pdu_is_longer_than_the_other_side_takes() -> None:
    pdus = command_pdus(b"c" * 1000, 1, 128)
    position, lengths = 0, []
    while position < len(pdus):
        lengths.append(int.from_bytes(pdus[position + 2 : position + 6], "big"))
        position += 6 + lengths[-1]
    assert max(lengths) == 128


def test_a_response_without_uids_leaves_them_out() -> None:
    answer = understood_by_pynetdicom(
        command_pdus(store_response(Command(1, 0, False, "", ""), 0xC000), 1, 0)
    )
    assert answer.Status == 0xC000
    assert answer.AffectedSOPInstanceUID is None


@given(st.binary(max_size=100))
def test_any_bytes_are_a_command_or_an_error(data: bytes) -> None:
    with contextlib.suppress(CommandError):
        read_command(data)
