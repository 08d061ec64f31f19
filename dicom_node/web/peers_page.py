"""Peers: who they are, whether they answer, their certificates, and who is unknown."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from dicom_node.config import NodeConfig
from dicom_node.model.peers import Peer
from dicom_node.serve.measure import certificate_ends
from dicom_node.serve.peer_care import Echo, echo_now, peer_name_for, with_peer
from dicom_node.store import looks
from dicom_node.store.activity import peer_activity
from dicom_node.store.callers import CallerLine, rejected_callers
from dicom_node.web.context import WebContext
from dicom_node.web.failures import NotThereError
from dicom_node.web.requests import Admin, Context, Operator, Read, Viewer, go, page
from dicom_node.web.routes_page import Reason, configuring_of, proposal_page

router = APIRouter(include_in_schema=False)
api = APIRouter(prefix="/api/v1", tags=["peers"])

CALLERS_OF: Final = timedelta(days=7)
_SOON: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class PeerLine:
    """A peer of `node.yaml` and how it does.

    Attributes:
        where: Its AE title and address, or its URL.
        roles: "sends", "receives": what it may do.
        trouble: Why it does not answer; None: it does, or was not asked yet.
        waiting: Objects that wait to be sent to it.
        given_up: Objects that it did not take.
    """

    name: str
    where: str
    roles: tuple[str, ...]
    tls: bool
    asked_at: datetime | None
    since: datetime | None
    trouble: str | None
    certificate_ends_at: datetime | None
    waiting: int
    given_up: int
    answer: str | None
    sent_at: datetime | None


@dataclass(frozen=True, slots=True)
class CertificateLine:
    """A certificate of ours: what it is for, and its end."""

    use: str
    ends_at: datetime
    ends_soon: bool


def peer_lines(config: NodeConfig, session: Session) -> list[PeerLine]:
    """Return each peer of a configuration."""
    seen = looks.peer_looks(session)
    receivers = {name for route in config.routes for name in route.send_to}
    found = []
    for name, peer in config.peers.items():
        look = seen.get(name)
        did = peer_activity(session, name)
        sends = isinstance(peer, Peer) and (config.anyone_may_send or name in config.accept_from)
        roles = [word for word, so in (("sends", sends), ("receives", name in receivers)) if so]
        where = (
            f"{peer.ae_title} at {peer.host}:{peer.port}" if isinstance(peer, Peer) else peer.url
        )
        found.append(
            PeerLine(
                name,
                where,
                tuple(roles),
                peer.tls is not None,
                look.at if look else None,
                look.since if look else None,
                look.trouble if look else None,
                look.certificate_ends_at if look else None,
                did.waiting,
                did.given_up,
                did.answer,
                did.sent_at,
            )
        )
    return found


def unknown_callers(
    config: NodeConfig, session: Session, since: datetime
) -> list[tuple[CallerLine, bool]]:
    """Return who was not let in since a time, and whether its AE title is still unknown."""
    known = {peer.ae_title for peer in config.dicom_peers.values()}
    return [
        (line, bool(line.calling_ae) and line.calling_ae not in known)
        for line in rejected_callers(session, since)
    ]


def certificates(config: NodeConfig, now: datetime) -> list[CertificateLine]:
    """Return when each certificate of ours ends, the first to end first."""
    ends = sorted(certificate_ends(config).items(), key=lambda item: item[1])
    return [CertificateLine(use, at, at - now < _SOON) for use, at in ends]


@router.get("/peers")
def peers_page(request: Request, context: Context, session: Read, caller: Viewer) -> Response:
    now = context.clock.now()
    return page(
        request,
        "peers.html",
        peers=peer_lines(context.config, session),
        certificates=certificates(context.config, now),
        callers=unknown_callers(context.config, session, now - CALLERS_OF),
        days=CALLERS_OF.days,
        soon=now + _SOON,
        anyone=context.config.anyone_may_send,
    )


@router.post("/peers/{name}/echo")
def echo_page(context: Context, caller: Operator, name: str) -> Response:
    told, is_error = _told(_echo(context, name, caller.name))
    return go("/peers", told, is_error=is_error)


@router.get("/peers/add")
def add_page(
    request: Request,
    context: Context,
    caller: Admin,
    ae_title: Annotated[str, Query(max_length=64)] = "",
    host: Annotated[str, Query(max_length=255)] = "",
) -> Response:
    return page(
        request,
        "peers_add.html",
        name=peer_name_for(ae_title, context.config) if ae_title else "",
        ae_title=ae_title,
        host=host,
    )


@router.post("/peers/add")
def propose_peer(
    request: Request,
    context: Context,
    caller: Admin,
    name: Annotated[str, Form(min_length=1, max_length=64)],
    ae_title: Annotated[str, Form(min_length=1, max_length=16)],
    host: Annotated[str, Form(min_length=1, max_length=255)],
    port: Annotated[int, Form(ge=1, le=65535)] = 104,
    accept: Annotated[bool, Form()] = False,
    why: Reason = "",
) -> Response:
    """Show what the peer would change in node.yaml; nothing is written yet."""
    text, base = configuring_of(context).current()
    changed = with_peer(
        text,
        name=name.strip(),
        ae_title=ae_title.strip(),
        host=host.strip(),
        port=port,
        accept=accept,
    )
    return proposal_page(request, context, changed, base, why or f"add the peer {name.strip()}")


def _echo(context: WebContext, name: str, by: str) -> Echo:
    if name not in context.config.peers:
        known = ", ".join(context.config.peers) or "none"
        raise NotThereError(f"peer {name}", "node.yaml has no such peer", f"known: {known}")
    return echo_now(context.config, context.database, context.clock, name, by)


def _told(echo: Echo) -> tuple[str, bool]:
    if echo.trouble is not None:
        return f"{echo.peer} does not answer: {echo.trouble}", True
    return f"{echo.peer} answered in {echo.milliseconds:.0f} ms", False


@dataclass(frozen=True, slots=True)
class UnknownCaller:
    """Somebody who was not let in; `is_unknown`: no peer has its AE title."""

    calling_ae: str
    called_ae: str
    address: str
    reason: str
    times: int
    first_at: datetime
    last_at: datetime
    is_unknown: bool


@api.get("/peers")
def read_peers(context: Context, session: Read, caller: Viewer) -> list[PeerLine]:
    """Return each peer: how it answered last, and what waits for it."""
    return peer_lines(context.config, session)


@api.post("/peers/{name}/echo")
def echo(context: Context, caller: Operator, name: str) -> Echo:
    """Ask a peer now whether it is there (C-ECHO, QIDO-RS)."""
    return _echo(context, name, caller.name)


@api.get("/callers")
def read_callers(
    context: Context,
    session: Read,
    caller: Viewer,
    days: Annotated[float, Query(gt=0, le=366)] = 7,
) -> list[UnknownCaller]:
    """Return who was not let in during the last days."""
    since = context.clock.now() - timedelta(days=days)
    return [
        UnknownCaller(**asdict(line), is_unknown=is_unknown)
        for line, is_unknown in unknown_callers(context.config, session, since)
    ]


@api.get("/certificates")
def read_certificates(context: Context, caller: Viewer) -> list[CertificateLine]:
    """Return when each certificate of ours ends."""
    return certificates(context.config, context.clock.now())
