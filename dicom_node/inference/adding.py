"""A bundle, as a folder or a ZIP file, put among a site's pipelines: wholly or not at all."""

from __future__ import annotations

import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from dicom_node.errors import PipelineError
from dicom_node.inference.bundles import BUILT_IN, FILL_IN
from dicom_node.inference.trust import distrust, files_of

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_MOST_FILES: Final = 10_000
_MOST_BYTES: Final = 8 << 30
"""More than the weights of any bundle of the Model Zoo; less than what fills a disk."""
_CHUNK: Final = 1 << 20
_METADATA: Final = "configs/metadata.json"
_SPEC: Final = "configs/dicom.yaml"


@dataclass(frozen=True, slots=True)
class Added:
    """A bundle that is now a pipeline's folder; `proposed`: its dicom.yaml is ours."""

    folder: Path
    proposed: bool


def add(source: Path, to: Path, name: str | None = None) -> Added:
    """Copy a bundle into a folder of pipelines and, if it has none, propose its dicom.yaml.

    Args:
        source: The bundle's folder, or a ZIP file with the bundle or one folder with it.
        to: One of `pipelines_path`.
        name: The pipeline's; None: that of the bundle's folder or of the ZIP file.

    Raises:
        PipelineError: It is no bundle, it would write outside of its folder, it is too large,
            or there is a pipeline of that name.
    """
    from dicom_node.inference.proposal import propose

    if not to.is_dir():
        raise PipelineError(str(to), "there is no such folder", "make it, or name another")
    with _unpacked(source, to) as (bundle, called):
        chosen = _free_name(name or called, to)
        if not (bundle / _METADATA).is_file():
            raise PipelineError(
                str(source),
                f"it is no MONAI bundle: it has no {_METADATA}",
                "name the folder that holds `configs`",
            )
        proposed = not (bundle / _SPEC).is_file()
        if proposed:
            (bundle / _SPEC).write_text(propose(bundle, chosen), encoding="utf-8")
        # trust in an earlier bundle of that name is none in this one
        distrust(to / chosen)
        try:
            bundle.rename(to / chosen)
        except OSError as error:
            raise PipelineError(
                str(to / chosen), f"it cannot be made: {error.strerror}", "try again"
            ) from None
    return Added(to / chosen, proposed)


@contextmanager
def _unpacked(source: Path, to: Path) -> Iterator[tuple[Path, str]]:
    """Copy a bundle to a hidden folder of `to`; yields it, and what it is called."""
    try:
        hidden = Path(tempfile.mkdtemp(prefix=".adding-", dir=to))
    except OSError as error:
        raise PipelineError(
            str(to), f"it cannot be written: {error.strerror}", "run this as the folder's owner"
        ) from None
    try:
        home = hidden / "bundle"
        if source.is_dir():
            _copy_folder(source, home)
            yield home, source.resolve().name
        elif zipfile.is_zipfile(source):
            try:
                inside = _extract(source, home)
            except (zipfile.BadZipFile, RuntimeError, EOFError) as error:
                raise PipelineError(
                    str(source),
                    f"it cannot be unpacked ({type(error).__name__})",
                    "make it again, without a password",
                ) from None
            yield home / inside, inside or source.stem
        else:
            raise PipelineError(
                str(source), "it is neither a folder nor a ZIP file", "name the bundle's folder"
            )
    finally:
        shutil.rmtree(hidden)


def _free_name(name: str, to: Path) -> str:
    if not _NAME.fullmatch(name):
        raise PipelineError(
            f"pipeline name {name!r}",
            "it is not made of letters, digits and _, or does not begin with a letter",
            "give another with --name",
        )
    if (to / name).exists() or (BUILT_IN / name).exists():
        raise PipelineError(
            f"pipeline {name}", "there is one of that name", "give another with --name"
        )
    return name


def _copy_folder(source: Path, home: Path) -> None:
    total = 0
    home.mkdir()
    for count, file in enumerate(files_of(source), start=1):
        inside = file.relative_to(source)
        if any(part.startswith(".") for part in inside.parts):
            continue
        total += file.stat().st_size
        _within_limits(source, count, total)
        target = home / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def _extract(source: Path, home: Path) -> str:
    """Unpack a ZIP file; returns the folder of the bundle in it, "" when it is the whole."""
    with zipfile.ZipFile(source) as archive:
        entries = [item for item in archive.infolist() if not item.is_dir()]
        _within_limits(source, len(entries), sum(item.file_size for item in entries))
        places = {item: _safe_place(source, item) for item in entries}
        total = 0
        for item, place in places.items():
            if any(part.startswith(".") or part == "__pycache__" for part in place.parts):
                continue
            target = home.joinpath(*place.parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(item) as packed, target.open("wb") as file:
                # the sizes of a ZIP file's directory need not be true
                while chunk := packed.read(_CHUNK):
                    total += len(chunk)
                    _within_limits(source, len(entries), total)
                    file.write(chunk)
    if (home / _METADATA).is_file():
        return ""
    found = list(home.glob(f"*/{_METADATA}"))
    return found[0].relative_to(home).parts[0] if len(found) == 1 else ""


def _safe_place(source: Path, item: zipfile.ZipInfo) -> PurePosixPath:
    place = PurePosixPath(item.filename)
    kind = stat.S_IFMT(item.external_attr >> 16)
    outside = place.is_absolute() or ".." in place.parts or "\\" in item.filename
    if outside or ":" in item.filename or not place.parts or kind not in (0, stat.S_IFREG):
        raise PipelineError(
            str(source),
            "an entry of it is a link, or lies outside of the bundle's folder",
            "do not use this file; ask where it comes from",
        )
    return place


def _within_limits(source: Path, files: int, size: int) -> None:
    if files > _MOST_FILES or size > _MOST_BYTES:
        raise PipelineError(
            str(source),
            f"it has more than {_MOST_FILES} files or {_MOST_BYTES >> 30} GiB",
            "leave out what is not the bundle's",
        )


def next_steps(added: Added, unfilled: tuple[str, ...]) -> list[str]:
    """Say what is left for a person to do."""
    name = added.folder.name
    steps = []
    if unfilled:
        places = ", ".join(unfilled[:6]) + (" …" if len(unfilled) > 6 else "")
        steps.append(f"replace every {FILL_IN} in {added.folder / _SPEC}: {places}")
    steps.append(f"dicom-node pipelines check {name}")
    steps.append(f"name {name} under `run` of a route in node.yaml, then restart the node")
    return steps
