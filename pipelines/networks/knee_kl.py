"""The knee pipeline's networks in one: the finder of joints and the ensemble that grades them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.networks.kl_ensemble import KLEnsemble, Vote
from pipelines.networks.knee_finder import KneeFinder


class KneeKL(KLEnsemble):
    """`KLEnsemble`, with the joint finder beside it so that one file holds all weights."""

    def __init__(self, members: Sequence[Mapping[str, Any]], vote: Vote = "soft") -> None:
        super().__init__(members, classes=5, vote=vote)
        self.finder = KneeFinder()
