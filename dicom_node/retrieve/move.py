"""C-MOVE: the peer sends the images to our receiver, as if they were new (PS3.4 section C.4.2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from dicom_node.retrieve.calling import MOVE, PULL_TIMEOUT, Line
from dicom_node.retrieve.find import Finder
from dicom_node.retrieve.found import FoundSeries, Pulled
from dicom_node.retrieve.operations import ending, request, together


class MoveArchive(Finder):
    """A peer that sends by C-MOVE.

    Args:
        destination: Our AE title, as the peer knows it with our host and port.
    """

    beside: ClassVar = (MOVE,)

    def __init__(self, line: Line, destination: str) -> None:
        super().__init__(line)
        self._destination = destination

    def pull(self, study_uid: str, series: Iterable[FoundSeries]) -> Pulled:
        return together(self._move(study_uid, item.series_instance_uid) for item in series)

    def _move(self, study_uid: str, series_uid: str) -> Pulled:
        association = self._association()
        self._line.check(association, MOVE, "C-MOVE")
        association.dimse_timeout = PULL_TIMEOUT
        keys = request(study_uid, series_uid)
        pulled = ending(
            self._line.ask("C-MOVE", lambda: association.send_c_move(keys, self._destination, MOVE))
        )
        if pulled is None:
            self.close()
            self._line.lost("C-MOVE")
        association.dimse_timeout = self._line.settings.dimse_timeout
        if not pulled.ok and not pulled.completed:
            # not all say 0xA801: Orthanc answers 0xC000
            hint = f"does it know {self._destination} with our host and port, and may it send here?"
            return replace(pulled, text=f"{pulled.text}; {hint}")
        return pulled
