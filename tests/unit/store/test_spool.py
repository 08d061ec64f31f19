"""The spool: nothing that was acknowledged is lost, nothing that was not is left."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import xxhash

from dicom_node.errors import SpoolError
from dicom_node.store import writing as writing_module
from dicom_node.store.files import start_write_back
from dicom_node.store.seal import dataset_sha256, is_whole, read_seal
from dicom_node.store.spool import Plan, Spool

HEAD = b"\0" * 128 + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00\x04\x00\x00\x00META"
STUDY, SERIES, SOP = "1.2.3", "1.2.3.4", "1.2.3.4.5"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def received(spool: Spool, body: bytes = b"data set") -> Path:
    incoming = spool.incoming(HEAD)
    incoming.write(body)
    return incoming.keep()


def half_written(spool: Spool) -> list[Path]:
    return [file for file in spool.root.glob("incoming/*/*") if file.stat().st_size]


def test_a_kept_file_waits_in_the_inbox_with_its_bytes_unchanged(spool: Spool) -> None:
    incoming = spool.incoming(HEAD)
    for piece in (b"one ", memoryview(b"two "), bytearray(b"three")):
        incoming.write(piece)
    assert spool.waiting() == []
    file = incoming.keep()
    assert spool.waiting() == [file]
    assert file.read_bytes()[128:] == HEAD[128:] + b"one two three"


def test_a_kept_file_is_sealed(spool: Spool) -> None:
    file = received(spool, b"data")
    seal = read_seal(file.read_bytes()[:128])
    assert seal is not None
    assert (seal.size, seal.start) == (file.stat().st_size, len(HEAD))
    assert seal.checksum == xxhash.xxh3_128(b"data").hexdigest()
    assert is_whole(file)


@pytest.mark.parametrize("at", [135, 150, -1])
def test_a_seal_shows_a_changed_byte(spool: Spool, at: int) -> None:
    file = received(spool, b"data set")
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)
    assert not is_whole(file)


def test_a_seal_shows_a_missing_byte(spool: Spool) -> None:
    file = received(spool)
    os.truncate(file, file.stat().st_size - 1)
    assert not is_whole(file)


def test_a_file_that_changed_in_the_inbox_is_not_filed(spool: Spool) -> None:
    file = received(spool, b"data set")
    data = file.read_bytes()
    file.write_bytes(data[:-1] + b"?")
    with pytest.raises(SpoolError, match="not those that came"):
        spool.finish(file)
    file.write_bytes(data)
    assert spool.finish(file) == hashlib.sha256(b"data set").hexdigest()


def test_a_file_without_a_seal_is_hashed_from_its_data_set(tmp_path: Path) -> None:
    one, other = tmp_path / "one.dcm", tmp_path / "other.dcm"
    one.write_bytes(HEAD + b"data set")
    other.write_bytes(HEAD.replace(b"META", b"ELSE") + b"data set")
    assert dataset_sha256(one) == dataset_sha256(other) == hashlib.sha256(b"data set").hexdigest()


def test_a_discarded_file_leaves_nothing(spool: Spool) -> None:
    incoming = spool.incoming(HEAD)
    incoming.write(b"half a data set")
    incoming.discard()
    incoming.discard()
    assert half_written(spool) == []
    assert spool.waiting() == []


def test_discarding_after_keeping_is_harmless(spool: Spool) -> None:
    incoming = spool.incoming(HEAD)
    file = incoming.keep()
    incoming.discard()
    assert spool.waiting() == [file]


def test_the_file_is_synced_before_it_gets_its_name(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming = spool.incoming(HEAD)
    at_sync: list[list[Path]] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        at_sync.append(spool.waiting())
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    incoming.keep()
    assert at_sync == [[]]


def test_the_name_of_a_file_is_durable_before_its_first_byte(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[set[str]] = []
    monkeypatch.setattr(
        writing_module, "sync_folder", lambda folder: synced.append(set(os.listdir(folder)))
    )
    incoming = spool.incoming(HEAD)
    (written,) = half_written(spool)
    assert written.name in synced[-1]
    incoming.discard()


def test_what_a_full_disk_refuses_is_an_error_and_leaves_nothing(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming = spool.incoming(HEAD)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(SpoolError, match="No space left"):
        incoming.write(b"data")
    incoming.discard()
    assert half_written(spool) == []


@pytest.mark.parametrize("call", ["fsync", "pwrite"])
def test_a_file_that_cannot_be_made_durable_is_not_kept(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    incoming = spool.incoming(HEAD)

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, call, broken)
    with pytest.raises(SpoolError, match="Input/output error"):
        incoming.keep()
    assert spool.waiting() == []
    assert half_written(spool) == []


def test_a_spool_that_may_not_be_written_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(SpoolError, match="Read-only file system"):
        Spool(tmp_path / "spool")


# what another process does with the spool before it is killed
DIES = """
import os, signal, sys
from pathlib import Path
from dicom_node.store.spool import Spool
from tests.unit.store.test_spool import HEAD
incoming = Spool(Path(sys.argv[1])).incoming(HEAD)
incoming.write(b"data set")
if sys.argv[2] == "sealed":
    os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    incoming.keep()
os.kill(os.getpid(), signal.SIGKILL)
"""


def dies(spool: Spool, when: str) -> None:
    ended = subprocess.run([sys.executable, "-c", DIES, str(spool.root), when], check=False)
    assert ended.returncode == -9


def test_what_a_killed_writer_left_unfinished_is_removed(spool: Spool) -> None:
    dies(spool, "unfinished")
    assert len(half_written(spool)) == 1
    left = spool.clean_up()
    assert (left.kept, left.removed) == (0, 1)
    assert list((spool.root / "incoming").iterdir()) == []


def test_what_a_killed_writer_had_sealed_is_kept(spool: Spool) -> None:
    dies(spool, "sealed")
    assert spool.waiting() == []
    left = spool.clean_up()
    assert (left.kept, left.removed) == (1, 0)
    (file,) = spool.waiting()
    assert is_whole(file)


def test_cleaning_up_leaves_alone_what_another_receiver_is_writing(spool: Spool) -> None:
    incoming = spool.incoming(HEAD)
    left = Spool(spool.root).clean_up()
    assert (left.kept, left.removed) == (0, 0)
    incoming.write(b"more")
    assert is_whole(incoming.keep())


def test_closing_removes_what_was_made_in_advance(spool: Spool) -> None:
    received(spool)
    spool.close()
    assert list((spool.root / "incoming").iterdir()) == []
    assert len(spool.waiting()) == 1
    received(spool)
    assert len(spool.waiting()) == 2


def test_the_oldest_waits_first(spool: Spool) -> None:
    files = [received(spool) for _ in range(5)]
    for age, file in enumerate(files):
        os.utime(file, (1000 - age, 1000 - age))
    assert spool.waiting() == files[::-1]


def planned(spool: Spool, file: Path) -> Plan:
    return spool.plan(file, spool.finish(file), STUDY, SERIES, SOP)


def plan_and_place(spool: Spool, file: Path, *, keep_aside: bool = False) -> Path:
    return spool.place(planned(spool, file), keep_aside=keep_aside)


def test_a_file_is_filed_under_its_uids(spool: Spool) -> None:
    file = received(spool)
    target = plan_and_place(spool, file)
    assert target == spool.root / "studies" / STUDY / SERIES / f"{SOP}.dcm"
    assert is_whole(target)
    assert spool.waiting() == []


def test_filing_again_after_a_crash_is_harmless(spool: Spool) -> None:
    plan = planned(spool, received(spool))
    assert spool.place(plan) == spool.place(plan)
    assert is_whole(spool.root / plan.path)


def test_the_same_content_twice_is_one_file(spool: Spool) -> None:
    plan_and_place(spool, received(spool))
    target = plan_and_place(spool, received(spool))
    assert spool.waiting() == []
    assert list(target.parent.iterdir()) == [target]


def test_other_content_of_an_indexed_instance_is_kept_aside(spool: Spool) -> None:
    first = plan_and_place(spool, received(spool, b"first"))
    second = plan_and_place(spool, received(spool, b"second"), keep_aside=True)
    assert second.parent == spool.root / "aside"
    digest = hashlib.sha256(b"second").hexdigest()
    assert second.name == f"{SOP}.{digest[:16]}.dcm"
    assert first.read_bytes().endswith(b"first")
    again = plan_and_place(spool, received(spool, b"second"), keep_aside=True)
    assert again == second


def test_a_file_that_the_index_does_not_know_is_not_overwritten(spool: Spool) -> None:
    plan_and_place(spool, received(spool, b"of a lost index"))
    target = plan_and_place(spool, received(spool, b"new"))
    assert target.read_bytes().endswith(b"new")
    (aside,) = (spool.root / "aside").iterdir()
    assert aside.read_bytes().endswith(b"of a lost index")


@pytest.mark.parametrize(
    "uid", ["../../etc", "1.2/3", "", "1..2", "01.2", "1." * 40 + "1", "1.2\n"]
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_uid_that_would_name_another_folder_is_refused(
    spool: Spool, uid: str, place: int
) -> None:
    uids = [STUDY, SERIES, SOP]
    uids[place] = uid
    with pytest.raises(SpoolError, match="is not a UID"):
        spool.plan(received(spool), "00", *uids)


def test_a_file_set_aside_is_no_longer_waiting(spool: Spool) -> None:
    aside = spool.set_aside(received(spool))
    assert aside.exists()
    assert spool.waiting() == []


def test_no_descriptor_is_left_open(spool: Spool) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(150):
        received(spool)
        spool.incoming(HEAD).discard()
    assert len(os.listdir("/proc/self/fd")) <= before + 1 + 64  # the lock, and those in advance
    spool.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_descriptor_is_left_open_on_a_full_disk(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    received(spool)
    before = len(os.listdir("/proc/self/fd"))

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    for _ in range(3):
        with pytest.raises(SpoolError):
            spool.incoming(HEAD)
    assert len(os.listdir("/proc/self/fd")) == before - 3


def test_write_back_is_begun_without_harm(tmp_path: Path) -> None:
    file = tmp_path / "large"
    with file.open("wb", buffering=0) as stream:
        stream.write(bytes(1000))
        start_write_back(stream.fileno(), 0, 1000)
        start_write_back(stream.fileno(), 500, 10**9)
        stream.write(b"more")
    start_write_back(10**6, 0, 1)  # no such descriptor: left to fsync to tell
    assert file.read_bytes() == bytes(1000) + b"more"


def test_many_moves_are_made_durable_at_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    with pytest.raises(SpoolError):
        spool.sync([tmp_path / "not there" / "a.dcm"])
    spool.sync([tmp_path / "a.dcm", tmp_path / "b.dcm"])
