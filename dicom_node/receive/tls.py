"""TLS by BCP 195 (RFC 8996, RFC 9325), as PS3.15 section B.12 asks: 1.2 and 1.3 only."""

from __future__ import annotations

import ssl
import threading
from typing import Final

import structlog

from dicom_node.errors import ConfigError
from dicom_node.receive.settings import ClientCertificate, TlsSettings

_log = structlog.get_logger()

# forward secrecy and authenticated encryption; TLS 1.3 has no other
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
_MODES: Final = {
    ClientCertificate.NONE: ssl.CERT_NONE,
    ClientCertificate.OPTIONAL: ssl.CERT_OPTIONAL,
    ClientCertificate.REQUIRED: ssl.CERT_REQUIRED,
}


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """Make a context from the files as they are now.

    Raises:
        ConfigError: A file cannot be read or does not hold what it should.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_ciphers(_CIPHERS)
    what = f"TLS certificate {settings.certificate}"
    try:
        context.load_cert_chain(settings.certificate, settings.key, password=_no_password)
        if settings.client_ca is not None:
            what = f"TLS client CA {settings.client_ca}"
            context.load_verify_locations(settings.client_ca)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        why = str(getattr(error, "strerror", None) or error)
        raise ConfigError(what, why, "give PEM files, the key not encrypted") from None
    if settings.client_certificate is not ClientCertificate.NONE and settings.client_ca is None:
        raise ConfigError(
            "TLS client certificates", "there is nothing to verify them with", "give a client CA"
        )
    context.verify_mode = _MODES[settings.client_certificate]
    return context


class Certificates:
    """The present context; made anew when its files have changed, so that no restart is due."""

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._seen = self._state()
        self._context = server_context(settings)

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection.

        Files that cannot be used leave the present one in force, and the log says so.
        """
        with self._lock:
            state = self._state()
            if state != self._seen:
                self._seen = state
                try:
                    self._context = server_context(self._settings)
                    _log.info("tls_certificate_reloaded")
                except ConfigError as error:
                    _log.error("tls_certificate_not_reloaded", what=error.what, why=error.why)
            return self._context

    def _state(self) -> tuple[tuple[int, int], ...]:
        """What shows that a file has changed: its inode and time."""
        settings = self._settings
        state = []
        for file in (settings.certificate, settings.key, settings.client_ca):
            try:
                found = file.stat() if file else None
            except OSError:
                found = None  # it is being replaced; the next connection sees the new one
            state.append((found.st_ino, found.st_mtime_ns) if found else (0, 0))
        return tuple(state)


def _no_password() -> str:
    raise ValueError("the private key is encrypted")
