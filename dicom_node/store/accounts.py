"""Users: who is known, by which password or identity provider, and with which role.

Passwords are kept as argon2id hashes, which cannot be read back. Nothing here is ever logged.
"""

from __future__ import annotations

import re
import secrets
from base64 import b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import ARGON2_VERSION
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from dicom_node.errors import NodeError
from dicom_node.model.access import Role, User
from dicom_node.store import audit
from dicom_node.store.access_tables import (
    ApiToken,
    SetupToken,
    UserRow,
    WebSession,
)
from dicom_node.store.sessions import hash_token

SHORTEST_PASSWORD: Final = 12
LONGEST_PASSWORD: Final = 1024
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_hasher: Final = PasswordHasher()
_SETUP_LIVES: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class UserLine:
    """A user as a list shows it; `by` is "password" or "identity provider"."""

    name: str
    role: str
    by: str
    created_at: datetime
    sessions: int


def hash_password(password: str) -> str:
    """Return the hash that is kept; takes some ten milliseconds by design.

    Raises:
        NodeError: The password is too short or too long.
    """
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise NodeError(
            "password",
            f"it has {len(password)} characters",
            f"take {SHORTEST_PASSWORD} to {LONGEST_PASSWORD}; a few words make a good one",
        )
    return _hasher.hash(password)


def _some_hash() -> str:
    """A hash of no known password, without the time of making one (the form is PHC's)."""
    cost = f"m={_hasher.memory_cost},t={_hasher.time_cost},p={_hasher.parallelism}"
    salt, digest = (
        b64encode(secrets.token_bytes(length)).decode().rstrip("=")
        for length in (_hasher.salt_len, _hasher.hash_len)
    )
    return f"$argon2id$v={ARGON2_VERSION}${cost}${salt}${digest}"


_NOBODY: Final = _some_hash()
"""Verified for a name that is not known, which then takes as long as a wrong password."""


def is_password(password: str, kept: str | None) -> bool:
    """Tell whether a password has this hash; without a hash the same time passes, and it is no."""
    try:
        return (
            _hasher.verify(kept or _NOBODY, password[: LONGEST_PASSWORD + 1]) and kept is not None
        )
    except (VerificationError, InvalidHashError):
        return False


def add(
    session: Session, name: str, role: Role, password_hash: str | None, now: datetime, by: str
) -> User:
    """Add a user of our own.

    Raises:
        NodeError: The name is taken or cannot be one.
    """
    if not _NAME.fullmatch(name):
        raise NodeError(f"user {name!r}", "a name has letters, digits and . _ @ -", "take another")
    if session.scalar(select(UserRow.id).where(func.lower(UserRow.name) == name.lower())):
        raise NodeError(f"user {name}", "the name is taken", "see `dicom-node users list`")
    row = UserRow(name=name, role=str(role), password_hash=password_hash, created_at=now)
    session.add(row)
    session.flush()
    audit.record(session, now, "user_added", user=name, role=str(role), by=by)
    return User(row.id, row.name, role)


def find(session: Session, name: str) -> UserRow:
    """Return a user.

    Raises:
        NodeError: There is none of this name.
    """
    row = session.scalar(select(UserRow).where(UserRow.name == name))
    if row is None:
        raise NodeError(f"user {name}", "there is none", "see `dicom-node users list`")
    return row


def user_of(row: UserRow) -> User:
    """Return a row as plain data."""
    return User(row.id, row.name, Role(row.role))


def set_password(session: Session, name: str, password_hash: str, now: datetime, by: str) -> None:
    """Give a user another password; whoever is logged in by the old one has to log in again.

    Raises:
        NodeError: There is no such user, or the identity provider lets it in.
    """
    row = find(session, name)
    if row.subject is not None:
        raise NodeError(
            f"user {name}", "the identity provider lets it in", "change the password there"
        )
    row.password_hash = password_hash
    session.execute(delete(WebSession).where(WebSession.user_id == row.id))
    audit.record(session, now, "user_password_changed", user=name, by=by)


def remove(session: Session, name: str, now: datetime, by: str) -> None:
    """Remove a user with its sessions and tokens.

    Raises:
        NodeError: There is none of this name.
    """
    row = find(session, name)
    for table in (WebSession, ApiToken):
        session.execute(delete(table).where(table.user_id == row.id))
    session.delete(row)
    audit.record(session, now, "user_removed", user=name, by=by)


def listed(session: Session) -> list[UserLine]:
    """Return every user, by name."""
    sessions = (
        select(func.count())
        .where(WebSession.user_id == UserRow.id)
        .correlate(UserRow)
        .scalar_subquery()
    )
    rows = session.execute(
        select(UserRow.name, UserRow.role, UserRow.subject, UserRow.created_at, sessions).order_by(
            UserRow.name
        )
    )
    return [
        UserLine(name, role, "identity provider" if subject else "password", at, number)
        for name, role, subject, at, number in rows
    ]


def has_admin(session: Session) -> bool:
    """Tell whether anybody may do everything."""
    query = select(UserRow.id).where(UserRow.role == str(Role.ADMIN))
    return session.scalar(query.limit(1)) is not None


def new_setup_token(session: Session, now: datetime) -> str | None:
    """Return a one-time token for the first admin; None when there is an admin.

    The token before it is void.
    """
    session.execute(delete(SetupToken))
    if has_admin(session):
        return None
    token = secrets.token_urlsafe(32)
    session.add(SetupToken(token_hash=hash_token(token), created_at=now))
    return token


def is_setup_token(session: Session, token: str, now: datetime) -> bool:
    """Tell whether the first admin may be made by this token."""
    row = session.get(SetupToken, hash_token(token))
    return row is not None and now - row.created_at < _SETUP_LIVES and not has_admin(session)


def use_setup_token(
    session: Session, token: str, name: str, password_hash: str, now: datetime
) -> User:
    """Make the first admin; the token is used up.

    Raises:
        NodeError: The token is not one any more, or the name cannot be one.
    """
    if not is_setup_token(session, token, now):
        raise NodeError(
            "setup", "this token is not one, or is used up", "`dicom-node users add` makes an admin"
        )
    session.execute(delete(SetupToken))
    return add(session, name, Role.ADMIN, password_hash, now, by="the setup token")


def log_in_by_provider(
    session: Session, subject: str, name: str, role: Role, now: datetime
) -> User:
    """Return the user whom the identity provider vouches for; made at the first time.

    Raises:
        NodeError: A user of our own, or of another subject, has the name.
    """
    row = session.scalar(select(UserRow).where(UserRow.subject == subject))
    if row is None:
        user = add(session, name, role, None, now, by="the identity provider")
        session.get_one(UserRow, user.id).subject = subject
        return user
    if row.role != str(role):
        audit.record(
            session,
            now,
            "user_role_changed",
            user=row.name,
            role=str(role),
            was=row.role,
            by="the identity provider",
        )
        row.role = str(role)
    return User(row.id, row.name, role)
