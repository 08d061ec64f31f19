"""The same object in another transfer syntax, for a peer that takes only uncompressed ones."""

from __future__ import annotations

from typing import Final

from pydicom.dataset import FileDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

UNCOMPRESSED: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
"""In the order in which they are proposed."""


def can_be_uncompressed(syntax: str) -> bool:
    """Tell whether an object of this transfer syntax can be sent in one of `UNCOMPRESSED`."""
    uid = UID(syntax)
    return uid in (*UNCOMPRESSED, DeflatedExplicitVRLittleEndian) or (
        uid.is_transfer_syntax and uid.is_encapsulated
    )


def uncompress(dataset: FileDataset) -> None:
    """Make a data set's transfer syntax Explicit VR Little Endian, in place.

    Every pixel keeps its value: nothing is scaled or windowed. Only what was compressed as YBR
    becomes RGB, for there is no uncompressed form of its subsampling (PS3.5 section 8.2).

    Raises:
        NotImplementedError: Its pixels cannot be decoded here.
        RuntimeError: So, too.
        ValueError: Its pixels are damaged.
    """
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    if syntax.is_encapsulated and "PixelData" in dataset:
        # the object stays what it is: a new UID would make it another one
        dataset.decompress(generate_instance_uid=False)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
