"""The Authorization header of a DICOMweb peer, its secret read from its file each time."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

from dicom_node.errors import ConfigError
from dicom_node.model.peers import WebPeer
from dicom_node.secret import secret_of


def authorization(peer: WebPeer) -> dict[str, str]:
    """Return the header, or none for a peer without `auth`.

    Raises:
        ConfigError: The secret's file cannot be used; what it holds is never told.
    """
    auth = peer.auth
    if auth is None:
        return {}
    if auth.token_file is not None:
        token = secret_of(auth.token_file)
        if not token.isascii() or " " in token:
            raise ConfigError(
                f"secret file {auth.token_file}", "it holds no token", "give the token alone"
            )
        return {"Authorization": f"Bearer {token}"}
    if auth.password_file is None:
        return {}
    pair = f"{auth.user}:{secret_of(auth.password_file)}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode('ascii')}"}


def secret_file(peer: WebPeer) -> Path | None:
    """Return the file with a peer's secret."""
    return None if peer.auth is None else peer.auth.token_file or peer.auth.password_file


def is_open_to_others(file: Path) -> bool:
    """Tell whether users other than its owner and group may read a file."""
    return bool(file.stat().st_mode & stat.S_IROTH)
