"""A hospital's certificates for the tests, made by openssl: a CA, a server, clients."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.peers.dcmtk import program


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Certificates:
    """What a site has.

    Attributes:
        ca: Signs `server` and `client`.
        stranger: A client certificate that another CA has signed.
    """

    ca: Pair
    server: Pair
    client: Pair
    stranger: Pair


def make_certificates(folder: Path) -> Certificates:
    """Write all of them into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    ca, other = make_ca(folder, "ca"), make_ca(folder, "other")
    return Certificates(
        ca=ca,
        server=make_signed(folder, "server", ca),
        client=make_signed(folder, "client", ca),
        stranger=make_signed(folder, "stranger", other),
    )


def make_ca(folder: Path, name: str) -> Pair:
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    _openssl("req", "-x509", *_new_key(pair), "-out", pair.certificate, "-subj", f"/CN={name}")
    return pair


def make_signed(folder: Path, name: str, ca: Pair) -> Pair:
    """Make a certificate for 127.0.0.1 that a CA has signed."""
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    extensions.write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    _openssl("req", *_new_key(pair), "-out", request, "-subj", f"/CN={name}")
    _openssl(
        *("x509", "-req", "-in", request, "-CA", ca.certificate, "-CAkey", ca.key),
        *("-CAcreateserial", "-days", "30", "-extfile", extensions, "-out", pair.certificate),
    )
    return pair


def _new_key(pair: Pair) -> tuple[object, ...]:
    return ("-newkey", "rsa:2048", "-nodes", "-days", "30", "-keyout", pair.key)


def _openssl(*arguments: object) -> None:
    subprocess.run(
        [program("openssl"), *map(str, arguments)], check=True, capture_output=True, timeout=60
    )
