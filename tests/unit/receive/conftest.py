"""A desk with a spool, and what it told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.model.events import ReceiveEvent
from dicom_node.receive.desk import Desk
from dicom_node.receive.settings import ReceiverSettings
from dicom_node.store.spool import Spool
from tests.factories import ManualClock


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def events() -> list[ReceiveEvent]:
    return []


@pytest.fixture
def make_desk(spool: Spool, events: list[ReceiveEvent]) -> Callable[..., Desk]:
    def make(**settings: object) -> Desk:
        chosen = {"ae_titles": ("AINODE",), "promiscuous": True, **settings}
        return Desk(ReceiverSettings(**chosen), spool, events.append, ManualClock())

    return make


@pytest.fixture
def desk(make_desk: Callable[..., Desk]) -> Desk:
    return make_desk()
