"""What reading a damaged DICOM file may raise."""

from __future__ import annotations

import struct
import zlib
from typing import Final

from pydicom.errors import BytesLengthException, InvalidDicomError

UNREADABLE: Final = (
    InvalidDicomError,
    BytesLengthException,
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,
    AttributeError,
    KeyError,
    RecursionError,
    struct.error,
    zlib.error,
)
"""What pydicom raises for a file that is cut off or garbled, or that the disk does not give."""
