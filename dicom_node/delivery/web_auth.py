"""The Authorization header of a DICOMweb peer, its secret read from its file each time."""

from __future__ import annotations

import base64
import stat
from pathlib import Path
from typing import Final

from dicom_node.errors import ConfigError
from dicom_node.model.peers import WebPeer

_LONGEST_SECRET: Final = 16 * 1024
_FIX: Final = "give the secret alone, in one line of plain text"


def authorization(peer: WebPeer) -> dict[str, str]:
    """Return the header, or none for a peer without `auth`.

    Raises:
        ConfigError: The secret's file cannot be used; what it holds is never told.
    """
    auth = peer.auth
    if auth is None:
        return {}
    if auth.token_file is not None:
        token = _secret(auth.token_file)
        if not token.isascii() or " " in token:
            raise ConfigError(f"secret file {auth.token_file}", "it holds no token", _FIX)
        return {"Authorization": f"Bearer {token}"}
    if auth.password_file is None:
        return {}
    pair = f"{auth.user}:{_secret(auth.password_file)}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode('ascii')}"}


def secret_file(peer: WebPeer) -> Path | None:
    """Return the file with a peer's secret."""
    return None if peer.auth is None else peer.auth.token_file or peer.auth.password_file


def is_open_to_others(file: Path) -> bool:
    """Tell whether users other than its owner and group may read a file."""
    return bool(file.stat().st_mode & stat.S_IROTH)


def _secret(file: Path) -> str:
    what = f"secret file {file}"
    try:
        with file.open("rb") as stream:
            secret = stream.read(_LONGEST_SECRET + 1).decode("utf-8").strip()
    except UnicodeDecodeError:
        raise ConfigError(what, "it is not text", _FIX) from None
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigError(what, why, "let the node's user read it") from None
    if not secret or len(secret) > _LONGEST_SECRET or not secret.isprintable():
        raise ConfigError(what, "it is empty, too long or has several lines", _FIX)
    return secret
