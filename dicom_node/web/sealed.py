"""What was searched for, in an address that tells nobody: it may be a patient's name.

Addresses end up in the browser's history and in the logs of proxies. So the words are encrypted
by a key that only the session's cookie gives; the back button and bookmarks work for its life.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final

from cryptography.fernet import Fernet, InvalidToken

_LONGEST: Final = 4096


def seal(session_token: str, text: str) -> str:
    """Return a text as one that is safe in an address; "" stays ""."""
    return _fernet(session_token).encrypt(text.encode()).decode() if text else ""


def unseal(session_token: str, sealed: str) -> str:
    """Return the text again; "" for one of another session or of nobody's making."""
    if not sealed or len(sealed) > _LONGEST:
        return ""
    try:
        return _fernet(session_token).decrypt(sealed.encode()).decode()
    except (InvalidToken, ValueError):
        return ""


def _fernet(session_token: str) -> Fernet:
    key = hmac.new(session_token.encode(), b"search", hashlib.sha256).digest()
    return Fernet(base64.urlsafe_b64encode(key))
