"""Sending by TLS: to DCMTK and to our own receiver; each certificate problem names its file."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.delivery import CStore, Outgoing, Verdict
from dicom_node.delivery.asking import Outcome, Question, ask
from dicom_node.demo.ports import free_port
from dicom_node.model.commitment import CommitmentResult, Reference
from dicom_node.model.peers import Peer, PeerTls
from dicom_node.receive.commitment import report
from dicom_node.receive.settings import ClientCertificate, TlsSettings
from dicom_node.requestor import client_context
from tests.factories import radiograph
from tests.integration.test_receive_dcmtk import start
from tests.peers import calling
from tests.peers.certificates import Certificates, make_ca, make_certificates
from tests.peers.dcmtk import running_storescp

US = replace(calling.US, ae_title="XR")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def image(tmp_path: Path) -> Outgoing:
    dataset = radiograph()
    file = tmp_path / "image.dcm"
    dataset.save_as(file, enforce_file_format=True)
    return Outgoing(1, file, str(dataset.SOPClassUID))


def tls_of(certificates: Certificates, shown: str = "", **more: object) -> PeerTls:
    pair = getattr(certificates, shown) if shown else None
    given: dict[str, object] = {
        "ca": certificates.ca.certificate,
        "certificate": pair.certificate if pair else None,
        "key": pair.key if pair else None,
        **more,
    }
    return PeerTls.model_validate(given)


def to(port: int, tls: PeerTls | None, title: str = "PACS", host: str = "127.0.0.1") -> CStore:
    return CStore(US, Peer(ae_title=title, host=host, port=port, tls=tls))


@pytest.fixture
def storescp(tmp_path: Path, certificates: Certificates) -> Iterator[int]:
    """DCMTK's receiver, which asks for a client certificate of the hospital's CA."""
    port = free_port()
    server = certificates.server
    options = ("+tls", str(server.key), str(server.certificate))
    ca = ("+cf", str(certificates.ca.certificate))
    with running_storescp(tmp_path / "pacs", port, *options, *ca):
        yield port


def test_dcmtk_takes_an_object_and_an_echo_by_tls(
    storescp: int, certificates: Certificates, image: Outgoing, tmp_path: Path
) -> None:
    destination = to(storescp, tls_of(certificates, "client"))
    (answer,) = destination.send([image])
    assert (answer.verdict, answer.text) == (Verdict.SENT, "status 0x0000 (Success)")
    assert len(list((tmp_path / "pacs").iterdir())) == 1


def test_a_peer_that_wants_our_certificate_refuses_us_without_one(
    storescp: int, certificates: Certificates, image: Outgoing, tmp_path: Path
) -> None:
    (answer,) = to(storescp, tls_of(certificates)).send([image])
    assert answer.verdict is Verdict.TRY_AGAIN
    assert "no association" in answer.text
    assert list((tmp_path / "pacs").iterdir()) == []


def test_plain_text_to_a_tls_port_and_tls_to_a_plain_port_come_to_nothing(
    storescp: int, certificates: Certificates, image: Outgoing, tmp_path: Path
) -> None:
    (answer,) = to(storescp, None).send([image])
    assert answer.verdict is Verdict.TRY_AGAIN
    plain = free_port()
    with running_storescp(tmp_path / "plain", plain):
        why = to(plain, tls_of(certificates)).check()
        assert why is not None
        assert "no association: " in why


@pytest.fixture
def receiver(tmp_path: Path, certificates: Certificates) -> Iterator[int]:
    """Our own receiver's TLS port."""
    settings = TlsSettings(
        certificate=certificates.server.certificate,
        key=certificates.server.key,
        client_ca=certificates.ca.certificate,
        client_certificate=ClientCertificate.REQUIRED,
    )
    for running in start(tmp_path / "node", tls=settings):
        yield running.receiver.tls_port


def test_our_receiver_takes_what_we_send_by_tls(
    receiver: int, certificates: Certificates, image: Outgoing
) -> None:
    destination = to(receiver, tls_of(certificates, "client"), "AINODE")
    assert destination.check() is None
    (answer,) = destination.send([image])
    assert answer.verdict is Verdict.SENT


def test_storage_commitment_is_asked_for_and_reported_by_tls(
    receiver: int, certificates: Certificates
) -> None:
    """This receiver has no database: that it says so shows that the message came through."""
    peer = to(receiver, tls_of(certificates, "client"), "AINODE").peer
    reference = Reference("1.2.840.10008.5.1.4.1.1.7", "1.2.3")
    asked = ask(US, peer, lambda: Question("1.2.3.4", [reference], lambda _: 0))
    assert (asked.outcome, asked.text) == (Outcome.REFUSED, "status 0x0110 (Failure)")
    result = CommitmentResult("1.2.3.4", "AINODE", "XR", [reference], [])
    assert report(peer, result) == "status 0x0110"
    plain = peer.model_copy(update={"tls": None})
    assert "no association" in str(report(plain, result))


def test_a_server_of_another_ca_is_not_trusted(
    receiver: int, certificates: Certificates, tmp_path: Path
) -> None:
    other = make_ca(tmp_path, "another").certificate
    why = to(receiver, tls_of(certificates, "client", ca=other), "AINODE").check()
    assert why is not None
    assert "its TLS certificate does not pass" in why
    assert f"checked with CA file {other}" in why


def test_a_certificate_of_another_host_is_not_taken_unless_the_name_is_not_checked(
    tmp_path: Path, certificates: Certificates
) -> None:
    settings = TlsSettings(
        certificate=certificates.server.certificate,
        key=certificates.server.key,
    )
    for running in start(tmp_path / "node", tls=settings):
        port = running.receiver.tls_port
        why = to(port, tls_of(certificates), "AINODE", host="localhost").check()
        assert why is not None
        assert "Hostname mismatch" in why
        unchecked = tls_of(certificates, check_host_name=False)
        assert to(port, unchecked, "AINODE", host="localhost").check() is None


def test_our_certificate_that_is_refused_is_named(
    receiver: int, certificates: Certificates
) -> None:
    why = to(receiver, tls_of(certificates, "stranger"), "AINODE").check()
    assert why is not None
    assert f"it refuses our TLS certificate {certificates.stranger.certificate}" in why


@pytest.mark.parametrize("which", ["ca", "certificate", "key"])
def test_a_file_that_cannot_be_used_is_named_and_the_object_waits(
    certificates: Certificates, image: Outgoing, tmp_path: Path, which: str
) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    tls = tls_of(certificates, "client").model_copy(update={which: broken})
    (answer,) = to(free_port(), tls).send([image])
    assert answer.verdict is Verdict.TRY_AGAIN
    assert "TLS" in answer.text
    assert str(broken) in answer.text
    absent = tls_of(certificates, "client").model_copy(update={which: tmp_path / "absent.pem"})
    (answer,) = to(free_port(), absent).send([image])
    assert "No such file" in answer.text


def test_a_host_without_address_is_an_answer_not_an_exception(image: Outgoing) -> None:
    (answer,) = to(104, None, host="no-such-host.invalid").send([image])
    assert answer.verdict is Verdict.TRY_AGAIN
    assert "no association" in answer.text


def test_nothing_older_than_tls_1_2_is_spoken(certificates: Certificates) -> None:
    context = client_context(tls_of(certificates))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
