"""The disk is full, read-only, or its quota is used up: refused with 0xA700, and on it goes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dicom_node.store.reserve import ROOM
from tests.faults.receivers import Forked, Nursery, one_receiver
from tests.faults.spools import assert_nothing_is_missing, kept, unfinished
from tests.peers.disk import OWN_NAMESPACE, need_namespace
from tests.peers.ports import wait_for
from tests.peers.scripted import associated, connected, echo, store

MIB = 1024 * 1024
OUT_OF_RESOURCES = 0xA700


@dataclass
class SmallDisk:
    """A tmpfs in a mount namespace of its own, and how to look into it from here; of 16 MiB."""

    nursery: Nursery
    inside: Path

    @property
    def spool_inside(self) -> Path:
        return self.inside / "spool"

    @property
    def spool(self) -> Path:
        return Path(f"/proc/{self.nursery.pid}/root{self.spool_inside}")

    def remount(self, how: str) -> None:
        command = ["nsenter", "-t", str(self.nursery.pid), "-m", "-U", "--preserve-credentials"]
        subprocess.run(
            [*command, "mount", "-o", f"remount,{how}", str(self.inside)],
            check=True,
            capture_output=True,
        )


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SmallDisk]:
    inside = tmp_path / "disk"
    inside.mkdir()
    need_namespace()
    size = getattr(request, "param", "16m")
    mount = f"mount -t tmpfs -o size={size} tmpfs '{inside}' && exec \"$@\""
    with Nursery(tmp_path, [*OWN_NAMESPACE, "sh", "-c", mount, "sh"]) as nursery:
        yield SmallDisk(nursery, inside)


def fill(receiver: Forked, first: int, size: int) -> tuple[list[str], int]:
    """Send images of `size` bytes until one is refused; returns those that were not, the status."""
    told = []
    with associated(receiver.port) as connection:
        for number in range(first, first + 100):
            sop = f"1.2.3.{number}"
            status = store(connection, sop, bytes(size))
            if status:
                # the association goes on: the next image, a small one, may fit
                store(connection, f"1.2.4.{number}", bytes(100))
                return told, status
            told.append(sop)
    raise AssertionError("the disk was never full")


@pytest.mark.parametrize("size", [MIB, 20 * MIB], ids=["between images", "within an image"])
def test_a_full_disk_refuses_and_takes_again_when_there_is_room(disk: SmallDisk, size: int) -> None:
    receiver = disk.nursery.start(disk.spool_inside)
    threads = receiver.threads()
    told, status = fill(receiver, 1, size)
    assert status == OUT_OF_RESOURCES
    assert (len(told) > 10) == (size == MIB)
    with connected(receiver.port) as connection:
        assert echo(connection) == 0
    assert_nothing_is_missing(disk.spool, told)
    for file in kept(disk.spool).values():
        os.unlink(file)
    with associated(receiver.port) as connection:
        assert store(connection, "1.2.5.1", bytes(MIB)) == 0
    assert_nothing_is_missing(disk.spool, ["1.2.5.1"])
    wait_for("the threads to end", lambda: receiver.threads() <= threads)


def test_below_the_watermark_images_are_refused_before_the_disk_is_full(disk: SmallDisk) -> None:
    receiver = disk.nursery.start(disk.spool_inside, min_free_bytes=8 * MIB)
    told, status = fill(receiver, 1, MIB)
    assert status == OUT_OF_RESOURCES
    assert 6 <= len(told) <= 9
    assert_nothing_is_missing(disk.spool, told)


@pytest.mark.parametrize("reserve", [0, 2 * MIB], ids=["without a reserve", "with a reserve"])
@pytest.mark.parametrize("disk", ["1g"], indirect=True)
def test_a_read_only_disk_refuses_and_takes_again_when_it_can_be_written(
    disk: SmallDisk, reserve: int
) -> None:
    receiver = disk.nursery.start(disk.spool_inside, reserve=reserve)
    assert len(list(disk.spool.glob("incoming/*/*"))) == reserve // ROOM
    disk.remount("ro")
    with associated(receiver.port) as connection:
        assert store(connection, "1.2.3.1") == OUT_OF_RESOURCES
        assert store(connection, "1.2.3.2") == OUT_OF_RESOURCES
        disk.remount("rw")
        assert store(connection, "1.2.3.3") == 0
    # it is durable before the answer, and in the inbox right after it
    wait_for("the image to be moved", lambda: set(kept(disk.spool)) == {"1.2.3.3"})
    assert unfinished(disk.spool) == []


@pytest.mark.parametrize("disk", ["1g"], indirect=True)
def test_a_receiver_starts_on_a_read_only_disk_and_takes_images_when_it_can(
    disk: SmallDisk,
) -> None:
    disk.nursery.start(disk.spool_inside).kill()
    disk.remount("ro")
    receiver = disk.nursery.start(disk.spool_inside, reserve=2 * MIB)
    with associated(receiver.port) as connection:
        assert store(connection, "1.2.3.1") == OUT_OF_RESOURCES
        disk.remount("rw")
        assert store(connection, "1.2.3.2") == 0
    wait_for("the image to be moved", lambda: set(kept(disk.spool)) == {"1.2.3.2"})
    assert "reserve_not_made" in disk.nursery.log.read_text()


def test_a_file_size_limit_refuses_the_image_that_passes_it_and_no_other(tmp_path: Path) -> None:
    with one_receiver(tmp_path, file_size=MIB) as receiver:
        with associated(receiver.port) as connection:
            assert store(connection, "1.2.3.1", bytes(100)) == 0
            descriptors = receiver.descriptors()
            for number in range(2, 6):
                assert store(connection, f"1.2.3.{number}", bytes(2 * MIB)) == OUT_OF_RESOURCES
            assert store(connection, "1.2.3.9", bytes(100)) == 0
            # a refused image gives its file back; those made in advance are used up
            assert receiver.descriptors() <= descriptors + 8
        assert_nothing_is_missing(tmp_path / "spool", ["1.2.3.1", "1.2.3.9"])
        assert set(kept(tmp_path / "spool")) == {"1.2.3.1", "1.2.3.9"}
