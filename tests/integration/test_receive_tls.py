"""TLS as BCP 195 asks, with client certificates or without; the plain port stays beside it."""

from __future__ import annotations

import os
import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.model.events import ReceiveKind
from dicom_node.receive.settings import ClientCertificate, TlsSettings
from tests.factories import radiograph
from tests.integration.test_receive_dcmtk import Running, start
from tests.peers.certificates import Certificates, make_ca, make_certificates, make_signed
from tests.peers.dcmtk import echoscu, storescu
from tests.peers.ports import wait_for
from tests.peers.scripted import connected, echo

TO_US = ("-aec", "AINODE", "-aet", "XR")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def tls(certificates: Certificates, wanted: ClientCertificate) -> TlsSettings:
    return TlsSettings(
        certificate=certificates.server.certificate,
        key=certificates.server.key,
        client_ca=certificates.ca.certificate,
        client_certificate=wanted,
    )


def running_with(
    folder: Path, certificates: Certificates, wanted: ClientCertificate, **settings: object
) -> Iterator[Running]:
    return start(folder, tls=tls(certificates, wanted), **settings)


def anonymous(certificates: Certificates) -> tuple[str, ...]:
    return ("+tla", "+cf", str(certificates.ca.certificate))


def with_certificate(certificates: Certificates, name: str) -> tuple[str, ...]:
    pair = getattr(certificates, name)
    return ("+tls", str(pair.key), str(pair.certificate), "+cf", str(certificates.ca.certificate))


@pytest.mark.parametrize(
    ("wanted", "shown", "taken"),
    [
        ("none", "", True),
        ("none", "client", True),
        ("optional", "", True),
        ("optional", "client", True),
        ("optional", "stranger", False),
        ("required", "client", True),
        ("required", "", False),
        ("required", "stranger", False),
    ],
)
def test_storescu_is_let_in_by_its_certificate(
    tmp_path: Path, certificates: Certificates, wanted: str, shown: str, taken: bool
) -> None:
    file = tmp_path / "film.dcm"
    radiograph().save_as(file, enforce_file_format=True)
    how = with_certificate(certificates, shown) if shown else anonymous(certificates)
    for running in running_with(tmp_path, certificates, ClientCertificate(wanted)):
        done = storescu(running.receiver.tls_port, [file], *TO_US, *how)
        assert (done.returncode == 0) == taken, done.stderr
        assert len(running.spool.waiting()) == taken
        if not taken:
            wait_for("the event", lambda r=running: r.events)
            assert running.events[0].kind is ReceiveKind.CONNECTION_REFUSED
            assert running.events[0].reason.startswith("no TLS: ")
        # and the others are served
        assert echoscu(running.receiver.port, *TO_US).returncode == 0


def test_a_peer_that_needs_a_certificate_comes_in_by_no_other_way(
    tmp_path: Path, certificates: Certificates
) -> None:
    for running in running_with(
        tmp_path, certificates, ClientCertificate.OPTIONAL, certified_peers=frozenset({"XR"})
    ):
        secure = running.receiver.tls_port
        done = echoscu(secure, *TO_US, *with_certificate(certificates, "client"))
        assert done.stderr == ""
        for port, how in ((secure, anonymous(certificates)), (running.port, ())):
            assert "Calling AE Title Not Recognized" in echoscu(port, *TO_US, *how).stderr
        assert all("client certificate" in event.reason for event in running.events)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken_with_forward_secrecy(
    tmp_path: Path, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    context = ssl.create_default_context(cafile=str(certificates.ca.certificate))
    context.minimum_version = context.maximum_version = version
    for running in running_with(tmp_path, certificates, ClientCertificate.NONE):
        with (
            connected(running.receiver.tls_port) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            name, spoken, _ = secure.cipher() or ("", "", 0)
            assert spoken == version.name.replace("_", ".")
            assert "ECDHE" in name or version is ssl.TLSVersion.TLSv1_3
            assert "GCM" in name or "CHACHA20" in name
            assert echo(secure) == 0


@pytest.mark.parametrize(
    ("version", "ciphers"),
    [
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "AES128-GCM-SHA256"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-AES128-SHA"),
    ],
)
def test_what_bcp_195_forbids_is_not_spoken(
    tmp_path: Path, certificates: Certificates, version: ssl.TLSVersion, ciphers: str
) -> None:
    context = ssl.create_default_context(cafile=str(certificates.ca.certificate))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python, for the old versions
        context.minimum_version = context.maximum_version = version
    context.set_ciphers(ciphers)
    for running in running_with(tmp_path, certificates, ClientCertificate.NONE):
        with connected(running.receiver.tls_port) as plain, pytest.raises(ssl.SSLError):
            context.wrap_socket(plain, server_hostname="127.0.0.1")
        wait_for("the event", lambda r=running: r.events)


def test_a_new_certificate_is_used_without_a_restart_and_a_bad_one_is_not(
    tmp_path: Path, certificates: Certificates
) -> None:
    server = make_signed(tmp_path, "server", certificates.ca)
    settings = TlsSettings(certificate=server.certificate, key=server.key)
    new_ca = make_ca(tmp_path, "new")
    new = make_signed(tmp_path, "renewed", new_ca)
    for running in start(tmp_path, tls=settings):
        port = running.receiver.tls_port
        assert serves(port, certificates.ca.certificate)
        os.replace(new.key, server.key)
        os.replace(new.certificate, server.certificate)
        assert serves(port, new_ca.certificate)
        assert not serves(port, certificates.ca.certificate)
        server.certificate.write_text("no certificate")
        assert serves(port, new_ca.certificate)


def test_the_plain_port_speaks_no_tls_and_the_tls_port_nothing_plain(
    tmp_path: Path, certificates: Certificates
) -> None:
    for running in running_with(tmp_path, certificates, ClientCertificate.NONE):
        assert not serves(running.port, certificates.ca.certificate)
        assert echoscu(running.receiver.tls_port, *TO_US).stderr != ""
        assert echoscu(running.port, *TO_US).stderr == ""


def serves(port: int, ca: Path) -> bool:
    """Tell whether a C-ECHO by TLS that trusts this CA is answered."""
    context = ssl.create_default_context(cafile=str(ca))
    try:
        with (
            connected(port) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            return echo(secure) == 0
    except (ssl.SSLError, ConnectionError, TimeoutError):
        return False
