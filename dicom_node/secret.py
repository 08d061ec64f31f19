"""A secret from its file, read each time it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dicom_node.errors import ConfigError

_LONGEST: Final = 16 * 1024
_FIX: Final = "give the secret alone, in one line of plain text"


def secret_of(file: Path) -> str:
    """Return the one line that a file holds.

    Raises:
        ConfigError: It cannot be used; what it holds is never told.
    """
    what = f"secret file {file}"
    try:
        with file.open("rb") as stream:
            secret = stream.read(_LONGEST + 1).decode("utf-8").strip()
    except UnicodeDecodeError:
        raise ConfigError(what, "it is not text", _FIX) from None
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigError(what, why, "let the node's user read it") from None
    if not secret or len(secret) > _LONGEST or not secret.isprintable():
        why = "it is empty, too long or has several lines"
        raise ConfigError(what, why, _FIX)
    return secret
