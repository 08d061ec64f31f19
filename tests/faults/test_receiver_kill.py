"""kill -9 of the receiver at random bytes and moments: what was acknowledged is there, whole.

200 kills; 2,000 by `--long`.
"""

from __future__ import annotations

import contextlib
import random
import threading
from pathlib import Path

from tests.faults.receivers import Forked, Nursery
from tests.faults.spools import assert_nothing_is_missing
from tests.peers.ports import wait_for
from tests.peers.scripted import associated, image, read_pdu, status_of, store

KILLS = 200
RESERVES = (0, 2 * 1024 * 1024)
"""Bytes: of three images, so that the fourth goes the way of those without a reserve."""
KILLS_LONG = 2000
_MOST_IMAGES = 4
_LONGEST_MOMENT = 0.008
"""Seconds: as long as one image takes to be sealed, synchronised and moved."""


def kill_while_sending(receiver: Forked, chance: random.Random, sops: list[str]) -> list[str]:
    """Send images, kill the receiver in the last at a random byte, or at a random moment after it.

    Returns:
        What it acknowledged, the last words that arrive after its death included.
    """
    acknowledged = []
    with associated(receiver.port, timeout=60) as connection:
        for sop in sops[:-1]:
            assert store(connection, sop, some_pixels(chance)) == 0
            acknowledged.append(sop)
        last = image(sops[-1], some_pixels(chance))
        if chance.random() < 0.5:
            connection.sendall(last[: chance.randrange(len(last))])
        else:
            # all of it is there: it is being made durable
            connection.sendall(last)
            threading.Event().wait(chance.uniform(0, _LONGEST_MOMENT))
        receiver.kill()
        with contextlib.suppress(ConnectionError):
            if response := read_pdu(connection):
                assert status_of(response) == 0
                acknowledged.append(sops[-1])
    return acknowledged


def some_pixels(chance: random.Random) -> bytes:
    return chance.randbytes(2 * chance.randrange(100, 60_000))


def test_what_was_acknowledged_survives_hundreds_of_kills(tmp_path: Path, long: bool) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"random bytes of seed {seed}")
    chance = random.Random(seed)
    spool = tmp_path / "spool"
    told: set[str] = set()
    kills = KILLS_LONG if long else KILLS
    with Nursery(tmp_path) as nursery:
        for number in range(kills):
            receiver = nursery.start(spool, reserve=chance.choice(RESERVES))
            images = chance.randrange(1, _MOST_IMAGES + 1)
            sops = [f"1.2.3.{number + 1}.{index + 1}" for index in range(images)]
            told.update(kill_while_sending(receiver, chance, sops))
        # the next start puts what was whole into the inbox and removes the rest
        receiver = nursery.start(spool)
        assert_nothing_is_missing(spool, told)
        assert list((spool / "incoming").iterdir()) == []
    assert len(told) > kills
    assert "Secret" not in nursery.log.read_text()
    wait_for("no process to be left", lambda: not Path(f"/proc/{receiver.pid}").exists())
