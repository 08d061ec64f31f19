"""What a spool must look like after any fault."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydicom import dcmread

from dicom_node.store.seal import is_begun, whole_size


def kept(spool: Path) -> dict[str, Path]:
    """Return the files in a spool's inbox by SOP Instance UID; each is whole."""
    found = {}
    for file in (spool / "inbox").iterdir():
        # of the reserve, it is cut when it is indexed
        assert whole_size(file) is not None, f"{file.name} is not whole"
        found[str(dcmread(file, stop_before_pixels=True).SOPInstanceUID)] = file
    return found


def unfinished(spool: Path) -> list[Path]:
    """Return what lies half written; files made in advance are empty, or zeros."""
    return [file for file in spool.glob("incoming/*/*") if is_begun(file)]


def assert_nothing_is_missing(spool: Path, acknowledged: Iterable[str]) -> None:
    """Every acknowledged instance is there, whole, and nothing lies half written."""
    missing = set(acknowledged) - set(kept(spool))
    assert not missing, f"{len(missing)} acknowledged instances are gone: {sorted(missing)[:3]}"
    assert unfinished(spool) == []
