"""Indexes what arrives: at once when a sender has gone, in pauses of the stream otherwise."""

from __future__ import annotations

import threading
from typing import Final

from dicom_node.serve.recurring import Recurring
from dicom_node.store.doorbell import Doorbell
from dicom_node.store.wake import bell_of
from dicom_node.studies.indexing import Indexer

_LOOK_EVERY: Final = 0.25
"""Seconds; also between two indexings of senders that open an association for each image."""


class Arrivals:
    """A thread that lets an indexer work until it is stopped."""

    def __init__(self, indexer: Indexer, bell: Doorbell) -> None:
        self._when_quiet = Recurring("index_when_quiet", indexer.index_when_quiet)
        self._at_once = Recurring("index_waiting", indexer.index_waiting)
        self._bell = bell
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="arrivals")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop after the images in hand."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        bell = bell_of(self._bell)
        while not self._over.is_set():
            if bell.wait(self._over, _LOOK_EVERY):
                self._at_once()
                self._over.wait(_LOOK_EVERY)
            elif not self._over.is_set():
                self._when_quiet()
