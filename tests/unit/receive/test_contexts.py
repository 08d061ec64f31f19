"""What is offered."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.filereader import read_file_meta_info
from pydicom.pixels import get_decoder
from pydicom.uid import AllTransferSyntaxes, UID_dictionary
from pynetdicom.presentation import build_context, negotiate_as_acceptor

from dicom_node.receive.contexts import contexts_for, storage_classes, transfer_syntaxes

CT = "1.2.840.10008.5.1.4.1.1.2"
LOSSLESS, EXPLICIT, IMPLICIT = (
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2",
)


def decodable() -> list[str]:
    found = []
    for uid in UID_dictionary:
        try:
            get_decoder(uid)
        except NotImplementedError:
            continue
        found.append(uid)
    return found


def test_every_transfer_syntax_that_pydicom_decodes_is_offered() -> None:
    assert len(decodable()) > 10
    assert set(decodable()) | set(AllTransferSyntaxes) <= set(transfer_syntaxes())


def test_every_transfer_syntax_of_the_real_files_is_offered(shared: Path) -> None:
    files = list((shared / "dicom").rglob("*.dcm"))
    assert files
    assert {str(read_file_meta_info(f).TransferSyntaxUID) for f in files} <= set(
        transfer_syntaxes()
    )


@pytest.mark.parametrize(
    "uid",
    [
        CT,
        "1.2.840.10008.5.1.4.1.1.88.33",  # Comprehensive SR
        "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation
        "1.2.840.10008.5.1.4.1.1.6",  # Ultrasound, retired
        "1.2.840.10008.5.1.4.1.1.104.1",  # Encapsulated PDF
    ],
)
def test_storage_classes_old_and_new_are_offered(uid: str) -> None:
    assert uid in storage_classes()


@pytest.mark.parametrize("uid", ["1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.1.20.2", "1.2.3"])
def test_what_is_not_storage_is_not(uid: str) -> None:
    assert contexts_for([build_context(uid)]) == []


def negotiated(*proposed: tuple[str, list[str]], extra: tuple[str, ...] = ()) -> list[str]:
    asked = [build_context(uid, syntaxes) for uid, syntaxes in proposed]
    for number, context in enumerate(asked):
        context.context_id = 2 * number + 1
    results, _ = negotiate_as_acceptor(asked, contexts_for(asked, extra))
    return [
        str(result.transfer_syntax[0]) if result.result == 0 else f"result {result.result}"
        for result in results
    ]


def test_the_senders_first_transfer_syntax_is_taken() -> None:
    assert negotiated((CT, [LOSSLESS, EXPLICIT, IMPLICIT])) == [LOSSLESS]
    assert negotiated((CT, [IMPLICIT, EXPLICIT])) == [IMPLICIT]


def test_each_context_of_one_class_gets_what_it_proposes() -> None:
    assert negotiated((CT, [LOSSLESS]), (CT, [EXPLICIT, IMPLICIT])) == [LOSSLESS, EXPLICIT]


def test_an_unknown_transfer_syntax_is_told_from_an_unknown_class() -> None:
    # PS3.8 Table 9-18: 3 abstract syntax, 4 transfer syntaxes not supported
    assert negotiated((CT, ["1.2.3.4"])) == ["result 4"]
    assert negotiated((CT, [EXPLICIT]), ("1.2.3.5", [EXPLICIT])) == [EXPLICIT, "result 3"]


def test_a_private_class_is_offered_when_it_is_configured() -> None:
    assert negotiated(("1.2.3.5", [EXPLICIT]), extra=("1.2.3.5",)) == [EXPLICIT]


def test_storage_commitment_is_taken_in_syntaxes_that_are_read_here() -> None:
    (context,) = contexts_for(
        [build_context("1.2.840.10008.1.20.1", ["1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.1"])]
    )
    assert [str(syntax) for syntax in context.transfer_syntax] == ["1.2.840.10008.1.2.1"]
