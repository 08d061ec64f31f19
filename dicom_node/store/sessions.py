"""Log-ins, sessions and scripts' tokens: how somebody proves who it is.

Tokens are kept as SHA-256 of 256 random bits, which cannot be read back. Nothing here is ever
logged.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from dicom_node.errors import NodeError
from dicom_node.model.access import Role, User
from dicom_node.store import audit
from dicom_node.store.access_tables import ApiToken, LoginAttempt, UserRow, WebSession

_SEEN_EVERY: Final = timedelta(seconds=30)
"""A session that is used is written down so often, not at each request."""


@dataclass(frozen=True, slots=True)
class Lockout:
    """How many log-ins may fail within a time before more are refused.

    Attributes:
        of_both: Of one name from one address.
        of_address: Of all names from one address.
        of_name: Of one name from all addresses; high, so that a stranger cannot lock a user out
            quickly.
    """

    window: timedelta = timedelta(minutes=15)
    of_both: int = 5
    of_address: int = 20
    of_name: int = 50


@dataclass(frozen=True, slots=True)
class TokenLine:
    """A script's token as a list shows it."""

    id: int
    user: str
    label: str
    role: str
    created_at: datetime
    last_used_at: datetime | None


def begin_attempt(
    session: Session, name: str, address: str, now: datetime, lockout: Lockout
) -> bool:
    """Write down that a log-in begins; False: too many have failed, it may not.

    It counts as failed until `end_attempt`, so that many at once cannot get past the limit.
    """
    name_hash = hash_token(name.casefold())
    session.execute(delete(LoginAttempt).where(LoginAttempt.at < now - lockout.window))

    def failed(*conditions: ColumnElement[bool]) -> int:
        query = select(func.count()).select_from(LoginAttempt).where(*conditions)
        return session.scalar(query) or 0

    from_here, of_name = LoginAttempt.address == address, LoginAttempt.name_hash == name_hash
    if (
        failed(from_here, of_name) >= lockout.of_both
        or failed(from_here) >= lockout.of_address
        or failed(of_name) >= lockout.of_name
    ):
        return False
    session.add(LoginAttempt(at=now, name_hash=name_hash, address=address))
    return True


def end_attempt(session: Session, name: str, address: str) -> None:
    """The log-in has succeeded: those that failed before it are forgotten."""
    session.execute(
        delete(LoginAttempt).where(
            LoginAttempt.name_hash == hash_token(name.casefold()), LoginAttempt.address == address
        )
    )


def open_session(session: Session, user_id: int, address: str, now: datetime) -> str:
    """Open a session; returns its token, which is kept nowhere else than in the cookie."""
    token = secrets.token_urlsafe(32)
    session.add(
        WebSession(
            token_hash=hash_token(token),
            user_id=user_id,
            address=address,
            created_at=now,
            seen_at=now,
        )
    )
    return token


def user_of_session(
    session: Session, token: str, now: datetime, idle: timedelta
) -> tuple[User, bool] | None:
    """Return whose session it is, and whether its use is to be written down again.

    None: there is none, or nobody has used it for `idle`.
    """
    row = session.execute(
        select(UserRow.id, UserRow.name, UserRow.role, WebSession.seen_at)
        .join(WebSession, WebSession.user_id == UserRow.id)
        .where(WebSession.token_hash == hash_token(token))
    ).one_or_none()
    if row is None or now - row.seen_at >= idle:
        return None
    return User(row.id, row.name, Role(row.role)), now - row.seen_at >= min(_SEEN_EVERY, idle / 4)


def use_session(session: Session, token: str, now: datetime) -> None:
    """Write down that a session is used."""
    row = session.get(WebSession, hash_token(token))
    if row is not None:
        row.seen_at = now


def close_session(session: Session, token: str) -> None:
    """End a session."""
    session.execute(delete(WebSession).where(WebSession.token_hash == hash_token(token)))


def forget_sessions(session: Session, before: datetime) -> None:
    """Delete the sessions that nobody has used since a time."""
    session.execute(delete(WebSession).where(WebSession.seen_at < before))


def add_token(session: Session, name: str, label: str, role: Role, now: datetime, by: str) -> str:
    """Make a token for a user's scripts; it is returned once and cannot be read back.

    Raises:
        NodeError: There is no such user, or the role is more than the user's.
    """
    row = session.scalar(select(UserRow).where(UserRow.name == name))
    if row is None:
        raise NodeError(f"user {name}", "there is none", "see `dicom-node users list`")
    if not Role(row.role).covers(role):
        raise NodeError(
            f"token for {name}", f"the user is {row.role} only", "ask for that role or a lesser one"
        )
    token = f"dn_{secrets.token_urlsafe(32)}"
    session.add(
        ApiToken(
            user_id=row.id,
            label=label[:64],
            role=str(role),
            token_hash=hash_token(token),
            created_at=now,
        )
    )
    audit.record(session, now, "token_added", user=name, label=label[:64], role=str(role), by=by)
    return token


def tokens(session: Session) -> list[TokenLine]:
    """Return every token, the oldest first."""
    rows = session.execute(
        select(
            ApiToken.id,
            UserRow.name,
            ApiToken.label,
            ApiToken.role,
            ApiToken.created_at,
            ApiToken.last_used_at,
        )
        .join(UserRow, UserRow.id == ApiToken.user_id)
        .order_by(ApiToken.id)
    )
    return [TokenLine(*row) for row in rows]


def revoke_token(session: Session, token_id: int, now: datetime, by: str) -> None:
    """Revoke a token: the next call by it is refused.

    Raises:
        NodeError: There is none of this number.
    """
    row = session.get(ApiToken, token_id)
    if row is None:
        raise NodeError(f"token {token_id}", "there is none", "see `dicom-node users tokens`")
    user = session.get_one(UserRow, row.user_id)
    session.delete(row)
    audit.record(session, now, "token_revoked", user=user.name, label=row.label, by=by)


def user_of_token(session: Session, token: str) -> tuple[User, datetime | None] | None:
    """Return whose token it is, with the lesser role of both, and when it was used last."""
    row = session.execute(
        select(UserRow.id, UserRow.name, UserRow.role, ApiToken.role, ApiToken.last_used_at)
        .join(ApiToken, ApiToken.user_id == UserRow.id)
        .where(ApiToken.token_hash == hash_token(token))
    ).one_or_none()
    if row is None:
        return None
    own, given = Role(row[2]), Role(row[3])
    return User(row[0], row[1], given if own.covers(given) else own), row[4]


def use_token(session: Session, token: str, now: datetime) -> None:
    """Write down that a token is used."""
    row = session.scalar(select(ApiToken).where(ApiToken.token_hash == hash_token(token)))
    if row is not None:
        row.last_used_at = now


def hash_token(text: str) -> str:
    """Return what is kept of a token."""
    return hashlib.sha256(text.encode()).hexdigest()
