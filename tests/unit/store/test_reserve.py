"""Images in files of the reserve: durable by one write, found after any crash, never mixed up."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom_node.errors import NotCutError, SpoolError
from dicom_node.store import reserve as reserve_module
from dicom_node.store.collected import Collected
from dicom_node.store.incoming import Incoming
from dicom_node.store.reserve import ROOM, Reserve, no_reserve
from dicom_node.store.seal import PREAMBLE, is_begun, is_whole, whole_size
from dicom_node.store.spool import Spool
from tests.peers.ports import wait_for
from tests.unit.store.test_spool import HEAD

FILES = 3


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool")
    spool.keep_reserve(FILES * ROOM)
    return spool


def begin(spool: Spool) -> Collected:
    image = spool.incoming(HEAD)
    assert isinstance(image, Collected)
    return image


def received(spool: Spool, body: bytes = b"data set") -> Path:
    image = begin(spool)
    image.write(body)
    image.keep()
    image.move()
    file = spool.waiting()[-1]
    spool.finish(file)
    return file


def made(spool: Spool) -> list[Path]:
    return list(spool.root.glob("incoming/*/*"))


def filling() -> bool:
    return any(thread.name == "reserve" for thread in threading.enumerate())


def fails(error: int) -> Callable[..., int]:
    def call(*_: object, **__: object) -> int:
        raise OSError(error, os.strerror(error))

    return call


def test_an_image_waits_in_the_inbox_with_its_bytes_unchanged(spool: Spool) -> None:
    image = begin(spool)
    for piece in (b"one ", memoryview(b"two "), bytearray(b"three")):
        image.write(piece)
    with image.contents() as data:
        assert bytes(data) == HEAD + b"one two three"
    image.keep()
    assert spool.waiting() == []
    image.move()
    (file,) = spool.waiting()
    # it is cut when there is time for it
    assert file.stat().st_size == ROOM
    assert spool.finish(file) == hashlib.sha256(b"one two three").hexdigest()
    assert file.read_bytes()[PREAMBLE:] == HEAD[PREAMBLE:] + b"one two three"
    assert is_whole(file)
    assert spool.finish(file) == hashlib.sha256(b"one two three").hexdigest()


def test_what_is_not_what_was_sealed_is_not_cut(spool: Spool) -> None:
    image = begin(spool)
    image.write(b"data set")
    image.keep()
    image.move()
    (file,) = spool.waiting()
    with file.open("r+b") as stream:
        stream.seek(len(HEAD))
        stream.write(b"rotten")
    with pytest.raises(SpoolError, match="not those that came"):
        spool.finish(file)
    assert file.stat().st_size == ROOM


@pytest.mark.parametrize("when", ["before", "after", "removed"])
def test_an_image_whose_folder_was_given_up_while_the_disk_was_waited_for_is_refused(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Before the write nothing is left of it; after it, it is whole: it was not acknowledged."""
    image = begin(spool)
    image.write(b"data set")
    write = os.pwrite
    assert image._reserved is not None
    path = image._reserved.path

    def hangs(fd: int, data: bytes, offset: int) -> int:
        monkeypatch.undo()
        if when == "before":
            spool.close()
        written = write(fd, data, offset)
        if when == "after":
            spool.close()
        elif when == "removed":
            os.unlink(path)
        return written

    monkeypatch.setattr(os, "pwrite", hangs)
    with pytest.raises(SpoolError, match="No such file"):
        image.keep()
    image.move()
    whole = [whole_size(file) is not None for file in spool.waiting()]
    assert whole == ([True] if when == "after" else [])


def test_a_file_that_cannot_be_cut_stays_in_the_inbox(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = begin(spool)
    image.keep()
    image.move()
    (file,) = spool.waiting()
    with monkeypatch.context() as broken:
        broken.setattr(os, "truncate", fails(errno.EIO))
        with pytest.raises(NotCutError, match="Input/output error"):
            spool.finish(file)
    spool.finish(file)
    assert is_whole(file)


@pytest.mark.parametrize("size", [4096 - len(HEAD), 4097 - len(HEAD), ROOM - len(HEAD)])
def test_an_image_of_any_length_is_whole(spool: Spool, size: int) -> None:
    body = os.urandom(size)
    file = received(spool, body)
    assert file.read_bytes()[len(HEAD) :] == body
    assert is_whole(file)


def test_the_write_returns_when_the_disk_has_it(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[int, int]] = []
    real = os.pwrite

    def pwrite(fd: int, data: memoryview, at: int) -> int:
        # O_DSYNC: the kernel flushes the disk; the blocks were there, and so was the length
        written.append((fcntl.fcntl(fd, fcntl.F_GETFL), os.fstat(fd).st_size))
        return real(fd, data, at)

    image = begin(spool)
    monkeypatch.setattr(os, "pwrite", pwrite)
    image.keep()
    ((flags, length),) = written
    assert flags & os.O_DSYNC
    assert flags & os.O_DIRECT
    assert length == ROOM


def test_nothing_of_an_earlier_image_follows_a_shorter_one(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    received(spool, b"\xee" * 9000)
    monkeypatch.setattr(Reserve, "move", lambda *_: None)
    image = begin(spool)
    image.write(b"short")
    image.keep()
    image.move()
    (file,) = [file for file in made(spool) if is_begun(file)]
    assert file.stat().st_size == ROOM
    assert b"\xee" not in file.read_bytes()


def test_an_image_that_is_not_kept_touches_no_file(spool: Spool) -> None:
    image = begin(spool)
    image.write(b"half an image")
    image.discard()
    image.discard()
    assert len(made(spool)) == FILES
    assert not any(map(is_begun, made(spool)))
    assert is_whole(received(spool))


def test_an_image_longer_than_the_room_goes_on_as_a_file(spool: Spool) -> None:
    body = os.urandom(2 * ROOM)
    image = begin(spool)
    for at in range(0, len(body), 100_000):
        image.write(body[at : at + 100_000])
    assert image.size == len(HEAD) + len(body)
    with image.contents() as data:
        assert bytes(data)[PREAMBLE:] == HEAD[PREAMBLE:] + body
    image.keep()
    image.move()
    (file,) = spool.waiting()
    assert file.read_bytes()[len(HEAD) :] == body
    assert is_whole(file)
    received(spool)  # the file of the reserve was given back


def test_a_long_image_that_is_not_kept_leaves_nothing(spool: Spool) -> None:
    image = begin(spool)
    image.write(bytes(2 * ROOM))
    image.discard()
    assert not any(map(is_begun, made(spool)))


def test_without_a_file_left_an_image_is_received_as_before(spool: Spool) -> None:
    images = [begin(spool) for _ in range(FILES)]
    assert isinstance(spool.incoming(HEAD), Incoming)
    for image in images:
        image.discard()
    begin(spool)


def test_the_reserve_is_filled_again_when_it_is_quiet(spool: Spool) -> None:
    for _ in range(FILES):
        received(spool)
    assert made(spool) == []
    wait_for("the reserve to be filled", lambda: not filling())
    assert len(made(spool)) == FILES
    received(spool)


def test_the_reserve_gives_way_where_space_is_short(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reserve_module, "_SHARE", 10**12)
    received(spool)
    wait_for("the reserve to be given up", lambda: made(spool) == [])
    assert isinstance(spool.incoming(HEAD), Incoming)


def test_where_nothing_is_written_directly_images_go_the_usual_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def indirect(path: str, flags: int, *more: int, **named: int) -> int:
        if flags & os.O_DIRECT:
            os.close(real(path, flags & ~os.O_DIRECT, *more, **named))  # some make it all the same
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", indirect)
    spool = Spool(tmp_path / "spool")
    with capture_logs() as logs:
        spool.keep_reserve(FILES * ROOM)
        assert made(spool) == []
        image = spool.incoming(HEAD)
        spool.close()
    assert isinstance(image, Incoming)
    assert [line["event"] for line in logs] == ["reserve_not_made"]
    assert no_reserve(tmp_path) == "Invalid argument"
    assert [path.name for path in tmp_path.iterdir()] == ["spool"]


def test_the_check_says_nothing_where_it_works(tmp_path: Path) -> None:
    assert no_reserve(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []


def test_what_the_disk_does_not_take_is_not_kept(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = begin(spool)
    image.write(b"data set")
    monkeypatch.setattr(os, "pwrite", fails(errno.EIO))
    with pytest.raises(SpoolError, match="Input/output error"):
        image.keep()
    image.move()
    image.discard()
    assert spool.waiting() == []
    assert len(made(spool)) == FILES - 1


def test_what_cannot_be_moved_is_moved_later(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    image = begin(spool)
    image.keep()
    with monkeypatch.context() as broken, capture_logs() as logs:
        broken.setattr(os, "rename", fails(errno.ENOSPC))
        image.move()
    image.discard()
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["image_not_moved"]
    wait_for("the image to be moved", lambda: len(spool.waiting()) == 1)
    assert whole_size(spool.waiting()[0]) == len(HEAD)


def test_closing_moves_what_was_kept_and_removes_the_rest(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(spool).write(b"not kept")
    begin(spool).keep()
    spool.close()
    assert list((spool.root / "incoming").iterdir()) == []
    (file,) = spool.waiting()
    assert whole_size(file) == len(HEAD)


# what another process does with the spool before it is killed
DIES = """
import os, signal, sys
from pathlib import Path
from dicom_node.store.reserve import ROOM
from dicom_node.store.spool import Spool
from tests.unit.store.test_spool import HEAD
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
spool = Spool(Path(sys.argv[1]))
spool.keep_reserve(3 * ROOM)
image = spool.incoming(HEAD)
image.write(os.urandom(20_000))
if sys.argv[2] == "torn":
    real = os.pwrite
    def half(fd, data, at):
        real(fd, data[:8192], at)
        die()
    os.pwrite = half
else:
    setattr(os, sys.argv[2], die)
image.keep()
image.move()
"""


@pytest.mark.parametrize(
    ("when", "kept", "removed"),
    [("rename", 1, 0), ("torn", 0, 1), ("pwrite", 0, 0)],
)
def test_a_killed_writer_leaves_whole_images_and_nothing_else(
    tmp_path: Path, when: str, kept: int, removed: int
) -> None:
    ended = subprocess.run([sys.executable, "-c", DIES, str(tmp_path), when], check=False)
    assert ended.returncode == -9
    spool = Spool(tmp_path)
    assert len(made(spool)) == FILES
    found = spool.clean_up()
    assert (found.kept, found.removed) == (kept, removed)
    assert [whole_size(file) for file in spool.waiting()] == [len(HEAD) + 20_000] * kept
    assert list((tmp_path / "incoming").iterdir()) == []


def test_a_seal_vouches_for_an_image_in_a_longer_file_and_for_no_other(spool: Spool) -> None:
    file = received(spool, bytes(5000))
    size = file.stat().st_size
    os.truncate(file, ROOM)
    assert whole_size(file) == size
    assert not is_whole(file)
    os.truncate(file, size - 1)
    assert whole_size(file) is None
