"""Hostile PDUs and data sets: no crash, no hang, no memory without bound, nothing half written.

Some thousand inputs; 100,000 by `--long`.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from dicom_node.errors import RefusedInstanceError
from dicom_node.receive.filing import inspect
from tests.faults.receivers import Forked, one_receiver
from tests.faults.spools import unfinished
from tests.peers.ports import wait_for
from tests.peers.scripted import RELEASE, associate_request, connected, echo, image, item
from tests.unit.receive.encoded import CT, SOP, command, data_set, pdu, pdv

PDUS, PDUS_LONG = 2_000, 50_000
DATA_SETS, DATA_SETS_LONG = 2_000, 50_000
MIB = 1024 * 1024

_SYNTAXES = {
    "implicit": "1.2.840.10008.1.2",
    "explicit": "1.2.840.10008.1.2.1",
    "big endian": "1.2.840.10008.1.2.2",
    "deflated": "1.2.840.10008.1.2.1.99",
    "jpeg": "1.2.840.10008.1.2.4.70",
}

Change = Callable[[bytes], bytes]


def changes() -> st.SearchStrategy[Change]:
    """One change of some bytes: overwritten, cut, doubled, inserted, a length made absurd."""
    place = st.floats(0, 1, exclude_max=True)
    some = st.binary(min_size=1, max_size=12)

    def at(data: bytes, where: float) -> int:
        return int(where * len(data))

    def overwrite(where: float, new: bytes) -> Change:
        return lambda d: d[: at(d, where)] + new + d[at(d, where) + len(new) :]

    def insert(where: float, new: bytes) -> Change:
        return lambda d: d[: at(d, where)] + new + d[at(d, where) :]

    def cut(where: float, length: int) -> Change:
        return lambda d: d[: at(d, where)] + d[at(d, where) + length :]

    def double(where: float, length: int) -> Change:
        return lambda d: d[: at(d, where) + length] + d[at(d, where) :]

    def end(where: float) -> Change:
        return lambda d: d[: at(d, where)]

    absurd = st.sampled_from(
        [
            struct.pack(f, n)
            for f in ("<I", ">I")
            for n in (0, 1, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
        ]
        + [b"SQ\0\0", b"UN\0\0", b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0", b"\x10\0\xe0\x7f"]
    )
    return st.one_of(
        st.builds(overwrite, place, st.one_of(some, absurd)),
        st.builds(insert, place, st.one_of(some, absurd)),
        st.builds(cut, place, st.integers(1, 200)),
        st.builds(double, place, st.integers(1, 200)),
        st.builds(end, place),
    )


def changed(data: bytes, steps: Sequence[Change]) -> bytes:
    for step in steps:
        data = step(data)
    return data


def conversations() -> st.SearchStrategy[bytes]:
    """Everything that a sender says on one connection, true, changed or made up."""
    noise = st.binary(max_size=300)
    made_up = st.builds(
        lambda kind, body: struct.pack(">BxI", kind, len(body)) + body, st.integers(0, 9), noise
    )
    pieces = st.sampled_from(
        [
            image(),
            image(pixels=bytes(40_000)),
            pdu(pdv(1, 3, command())),
            pdu(pdv(1, 2, data_set())),
            pdu(pdv(1, 3, command(field=0x30, has_data_set=False))),
            pdu(pdv(1, 3, command(field=0x130))),
            b"\x07\0\0\0\0\x04\0\0\0\0",
            RELEASE,
            b"\x02\0\0\0\0\x04\0\0\0\0",
        ]
    )
    body = st.lists(st.one_of(pieces, made_up, noise), max_size=4).map(b"".join)
    opening = st.one_of(
        st.just(associate_request()),
        st.just(associate_request(abstract_syntax="1.2.840.10008.1.1")),
        st.just(associate_request(abstract_syntax="1.2.840.10008.1.20.1")),
        st.builds(lambda kind, data: item(kind, data), st.integers(0, 255), noise),
        noise,
    )
    whole = st.builds(lambda first, rest: first + rest, opening, body)
    true = st.just(associate_request() + image() + RELEASE)
    return st.builds(changed, st.one_of(true, whole), st.lists(changes(), max_size=4))


@dataclass
class Victim:
    """A receiver, what it needed before, and how much was thrown at it."""

    receiver: Forked
    spool: Path

    def memory(self) -> int:
        status = Path(f"/proc/{self.receiver.pid}/status").read_text()
        (kilobytes,) = [line.split()[1] for line in status.splitlines() if "VmRSS" in line]
        return int(kilobytes) * 1024

    def hear(self, data: bytes) -> None:
        """Say something to it and listen until it has closed; it has 20 s for that."""
        with (
            connected(self.receiver.port) as connection,
            contextlib.suppress(ConnectionError),
        ):
            connection.sendall(data)
            try:
                connection.shutdown(socket.SHUT_WR)
            except OSError as error:
                # it has reset the connection already
                if error.errno != errno.ENOTCONN:
                    raise
            else:
                while connection.recv(65536):
                    pass
        for file in (self.spool / "inbox").iterdir():
            file.unlink()


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    folder = tmp_path_factory.mktemp("victim")
    limits = {"acse_timeout": 5, "network_timeout": 5, "max_dataset": MIB, "reserve": 64 * MIB}
    with one_receiver(folder, **limits) as receiver:
        yield Victim(receiver, folder / "spool")


def fuzz(number: int) -> settings:
    """How hypothesis runs it: no data base and no replay, so that each run looks elsewhere."""
    return settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


def test_no_conversation_breaks_or_bloats_the_receiver(victim: Victim, long: bool) -> None:
    with connected(victim.receiver.port) as connection:
        assert echo(connection) == 0
    victim.hear(associate_request() + image() + RELEASE)
    threads, descriptors, memory = (
        victim.receiver.threads(),
        victim.receiver.descriptors(),
        victim.memory(),
    )

    @fuzz(PDUS_LONG if long else PDUS)
    @given(conversations())
    def throw(data: bytes) -> None:
        victim.hear(data)

    throw()
    with connected(victim.receiver.port) as connection:
        assert echo(connection) == 0
    wait_for("the threads to end", lambda: victim.receiver.threads() <= threads)
    wait_for("the sockets to close", lambda: victim.receiver.descriptors() <= descriptors + 64)
    assert unfinished(victim.spool) == []
    assert victim.memory() < memory + 50 * MIB
    log = next(victim.spool.parent.glob("*.log")).read_text()
    crashes = ("thread_crashed", "association_failed", "store_failed")
    assert [line for line in log.splitlines() if any(word in line for word in crashes)] == []
    assert "Secret" not in log


@pytest.mark.parametrize("syntax", list(_SYNTAXES))
def test_no_data_set_breaks_the_look_at_its_header(syntax: str, long: bool) -> None:
    number = (DATA_SETS_LONG if long else DATA_SETS) // len(_SYNTAXES)
    true = [data_set(), data_set(pixels=bytes(5000)), data_set(ImageComments="x" * 300)]
    data_sets = st.builds(
        changed,
        st.one_of(st.sampled_from(true), st.binary(max_size=500)),
        st.lists(changes(), max_size=5),
    )
    longest = 0.0

    @fuzz(number)
    @given(data_sets)
    def look(data: bytes) -> None:
        nonlocal longest
        begin = time.process_time()
        with contextlib.suppress(RefusedInstanceError):
            inspect(
                data,
                start=0,
                transfer_syntax=_SYNTAXES[syntax],
                sop_class_uid=CT,
                sop_instance_uid=SOP,
            )
        longest = max(longest, time.process_time() - begin)

    with capture_logs() as logs:
        look()
    assert logs == []
    assert longest < 5, f"one data set of some hundred bytes took {longest:.1f} s of CPU"
