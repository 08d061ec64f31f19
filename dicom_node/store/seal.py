"""The seal: what the receiver writes into a file's preamble when the file is whole.

The 128 bytes before "DICM" are free for an implementation's own use (PS3.10 section 7.1). Ours
say how long the file is and the checksum of what came, so that a file is known to be whole
without any second file. The checksum is XXH3 (128 bits): it tells a torn or rotten file as well
as SHA-256 does and takes a thirtieth of its time, for which the sender waits. Against forgery
there is the SHA-256 that the index holds, taken off the sender's path.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import xxhash

from dicom_node.errors import SpoolError

PREAMBLE: Final = 128
_MAGIC: Final = b"dicom-node seal 2\n"
_LAYOUT: Final = struct.Struct(f"<{len(_MAGIC)}sQQI16s")
_CHUNK: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Seal:
    """What a sealed file says about itself.

    Attributes:
        size: Of the file, in bytes.
        start: Where its data set begins.
        head_crc: CRC-32 of the bytes between preamble and data set.
        checksum: XXH3 of the data set, in hexadecimal.
    """

    size: int
    start: int
    head_crc: int
    checksum: str

    def encoded(self) -> bytes:
        """Return the seal as a preamble, 128 bytes."""
        packed = _LAYOUT.pack(
            _MAGIC, self.size, self.start, self.head_crc, bytes.fromhex(self.checksum)
        )
        return packed.ljust(PREAMBLE, b"\0")


def new_checksum() -> xxhash.xxh3_128:
    """Begin the checksum of a data set, to be updated with its bytes as they come."""
    return xxhash.xxh3_128()


def seal_of(head: bytes, size: int, checksum: str) -> Seal:
    """Make the seal of a file.

    Args:
        head: Everything before the data set, the preamble (which is not looked at) included.
        size: Of the whole file.
        checksum: Of the data set, in hexadecimal.
    """
    return Seal(size, len(head), zlib.crc32(head[PREAMBLE:]), checksum)


def read_seal(preamble: bytes) -> Seal | None:
    """Read a seal from a file's first 128 bytes; None when there is none."""
    if len(preamble) < PREAMBLE or not preamble.startswith(_MAGIC):
        return None
    _, size, start, head_crc, digest = _LAYOUT.unpack_from(preamble)
    return Seal(size, start, head_crc, digest.hex())


def is_whole(file: Path) -> bool:
    """Tell whether a file is sealed and every byte of it is what the seal says, by reading it."""
    return whole_size(file) == file.stat().st_size


def whole_size(file: Path) -> int | None:
    """Return how many bytes a seal vouches for, by reading them; None when it does not.

    The file may be longer: one of the reserve (`store.reserve`) is cut when it is indexed.
    """
    with file.open("rb") as stream:
        seal = read_seal(stream.read(PREAMBLE))
        if seal is None or not PREAMBLE <= seal.start <= seal.size <= file.stat().st_size:
            return None
        if zlib.crc32(stream.read(seal.start - PREAMBLE)) != seal.head_crc:
            return None
        checksum = new_checksum()
        left = seal.size - seal.start
        while chunk := stream.read(min(left, _CHUNK)):
            checksum.update(chunk)
            left -= len(chunk)
    return seal.size if checksum.hexdigest() == seal.checksum else None


def is_begun(file: Path) -> bool:
    """Tell whether anything of an image is in a file; those made in advance are empty, or zeros."""
    with file.open("rb") as stream:
        return any(stream.read(PREAMBLE + len(b"DICM")))


def dataset_sha256(file: Path) -> str:
    """Return the SHA-256 of the encoded data set of a DICOM file, in hexadecimal.

    Without preamble and File Meta Information, which are the receiver's own (PS3.10 section
    7.1): two copies of one instance differ in them when two senders sent them.
    """
    with file.open("rb") as stream:
        stream.seek(dataset_start(stream.read(144)))
        return _rest_sha256(stream)


def checked(file: Path) -> tuple[str, int]:
    """Return the SHA-256 of a file's data set, and where that ends, if it is what was sealed.

    A file without a seal is taken as it is.

    Raises:
        SpoolError: It is not.
    """
    checksum, digest = new_checksum(), hashlib.sha256()
    with file.open("rb") as stream:
        head = stream.read(144)
        seal = read_seal(head)
        end = seal.size if seal is not None else file.stat().st_size
        left = end - stream.seek(dataset_start(head))
        while chunk := stream.read(min(max(left, 0), _CHUNK)):
            left -= len(chunk)
            checksum.update(chunk)
            digest.update(chunk)
    if seal is not None and checksum.hexdigest() != seal.checksum:
        raise SpoolError(
            file.name, "its bytes are not those that came", "check the disk; send it again"
        )
    return digest.hexdigest(), end


def reread_sha256(file: Path) -> str:
    """Return the SHA-256 of a file's data set as the disk has it: nothing that is cached counts.

    Raises:
        OSError: It cannot be read.
    """
    with file.open("rb") as stream:
        # pages that are in step with the disk are forgotten, so that the disk itself is read
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        stream.seek(dataset_start(stream.read(144)))
        return _rest_sha256(stream)


def dataset_start(head: bytes) -> int:
    """Return where the data set begins in a file whose first 144 bytes are `head`."""
    # the group length (0002,0000) stands first: tag, VR, length, then the number itself
    if head[128:132] != b"DICM" or head[132:136] != b"\x02\x00\x00\x00":
        return 0
    return 144 + int.from_bytes(head[140:144], "little")


def _rest_sha256(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
