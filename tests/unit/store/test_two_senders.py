"""A coordinator that has lost its lead may still be sending while the next one sends, too."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.model.states import DeliveryState
from dicom_node.store import outbox
from dicom_node.store.database import Database
from dicom_node.store.tables import Delivery
from tests.unit.store.lifecycles import Store

Answer = Callable[[Session, Store], None]


def sent(session: Session, store: Store) -> None:
    outbox.mark_sent(session, 1, "status 0x0000 (Success)", store.clock.now())


def refused(session: Session, store: Store) -> None:
    outbox.mark_failed(session, 1, "status 0xA900", store.clock.now())


def away(session: Session, store: Store) -> None:
    now = store.clock.now()
    outbox.mark_again(session, 1, "connection refused", now, now + timedelta(seconds=30))


@pytest.fixture
def store(database: Database) -> Store:
    """One object for one peer, which has taken it."""
    store = Store(database)
    store.arrive("1")
    store.route("1")
    store.finish(store.claim())  # type: ignore[arg-type]
    store.sent(1)
    return store


@pytest.mark.parametrize("state", [DeliveryState.SENT, DeliveryState.COMMITTED])
@pytest.mark.parametrize("late", [sent, refused, away])
def test_what_the_peer_has_stays_delivered_whatever_another_sender_saw(
    store: Store, late: Answer, state: DeliveryState
) -> None:
    with store.database.write() as session:
        session.scalars(select(Delivery)).one().state = state
    with store.database.write(alone=False) as session:
        late(session, store)
    with store.database.read() as session:
        delivery = session.scalars(select(Delivery)).one()
    assert (delivery.state, delivery.attempts) == (state, 1)
    assert delivery.answer == "status 0x0000 (Success)"
    assert len(store.events("report_sent")) == 1
    assert store.events("report_failed") == store.events("report_delayed") == []
