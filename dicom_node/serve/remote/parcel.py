"""Bundles and weights on their way to other machines: by content hash, and checked on arrival.

A parcel is a list of files with their SHA-256, and the parcel's own hash is over that list. What
travels is data and, of a site's own bundle that an administrator has trusted, the bundle's code.
The node's own code and its built-in pipelines do not travel: a machine runs the same release of
dicom-node, or nothing (`program_hash`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

import structlog

import dicom_node
from dicom_node.errors import PipelineError
from dicom_node.inference.bundles import BUILT_IN, Bundle, load_bundle
from dicom_node.inference.trust import Trust, files_of, trust, trust_of

_log = structlog.get_logger()

_CODE: Final = frozenset({".py", ".yaml", ".yml", ".json"})
_BUNDLE: Final = "bundle"
_WEIGHTS: Final = "weights"
_KEPT_DAYS: Final = 30
"""A parcel that nobody has used for so long is removed from a machine's cache."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a pipeline consists of.

    Attributes:
        files: SHA-256 of each file, by its path in the parcel.
        weights: Which of them are the weights.
        built_in: The bundle is one of dicom-node's own; only its weights travel.
        trusted: An administrator has trusted the bundle's code as it is in `files`.
    """

    name: str
    files: Mapping[str, str]
    weights: str
    weights_sha256: str
    version: str
    demonstration: bool
    built_in: bool
    trusted: bool

    @property
    def sha256(self) -> str:
        """The parcel's own name."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def packed(bundle: Bundle) -> tuple[Manifest, dict[str, bytes]]:
    """Return a pipeline as it travels: what it consists of, and the bytes.

    Raises:
        PipelineError: Its weights are not those of its manifest, or a file cannot be read.
    """
    weights = bundle.read_weights()
    built_in = bundle.folder.parent == BUILT_IN
    files: dict[str, bytes] = {}
    place = f"{_WEIGHTS}/{bundle.weights.name}"
    if not built_in:
        for file in files_of(bundle.folder):
            name = f"{_BUNDLE}/{bundle.name}/{file.relative_to(bundle.folder).as_posix()}"
            if file == bundle.weights:
                place = name
            else:
                files[name] = _read(bundle, file)
    files[place] = weights
    return (
        Manifest(
            bundle.name,
            {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
            place,
            bundle.weights_sha256,
            bundle.version,
            bundle.demonstration,
            built_in,
            trusted=not built_in and trust_of(bundle.folder) is Trust.TRUSTED,
        ),
        files,
    )


def unpacked(
    manifest: Manifest, fetch: Callable[[str], bytes], cache_dir: Path | None = None
) -> Bundle:
    """Return a pipeline on this machine, from its cache or fetched now.

    Args:
        fetch: Returns the bytes of a file of the parcel.

    Raises:
        PipelineError: What arrived is not what the manifest says, or the cache cannot be used.
    """
    home = _home(cache_dir)
    folder = home / manifest.sha256
    try:
        with _alone(home / f"{manifest.sha256}.lock"):
            if not _is_whole(folder, manifest):
                _fetch(folder, manifest, fetch)
            os.utime(folder)
        _forget_old(home)
    except OSError as error:
        raise PipelineError(
            f"cache folder {home}",
            f"it cannot be used: {error.strerror}",
            "see to its space and rights, or name another in `ray.cache_dir`",
        ) from None
    if manifest.built_in:
        bundle = load_bundle(BUILT_IN / manifest.name)
    else:
        bundle = load_bundle(folder / _BUNDLE / manifest.name)
        if manifest.trusted:
            trust(bundle.folder)
    return replace(
        bundle,
        weights=folder / manifest.weights,
        weights_sha256=manifest.weights_sha256,
        version=manifest.version,
        demonstration=manifest.demonstration,
    )


@cache
def program_hash() -> str:
    """Return the SHA-256 over dicom-node's own files and its built-in pipelines', here."""
    whole = hashlib.sha256()
    package = Path(dicom_node.__file__).resolve().parent
    for root in (package, BUILT_IN):
        for file in sorted(root.rglob("*")):
            if file.suffix in _CODE and "__pycache__" not in file.parts and file.is_file():
                digest = hashlib.sha256(file.read_bytes()).hexdigest()
                whole.update(f"{root.name}/{file.relative_to(root).as_posix()} {digest}\n".encode())
    return whole.hexdigest()


def _read(bundle: Bundle, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise PipelineError(
            f"bundle {bundle.name}", f"{file.name} cannot be read: {error.strerror}", "restore it"
        ) from None


def _fetch(folder: Path, manifest: Manifest, fetch: Callable[[str], bytes]) -> None:
    """Write a parcel's files beside its place, and put them there when all are right."""
    shutil.rmtree(folder, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=".arriving-", dir=folder.parent))
    try:
        for name, sha256 in manifest.files.items():
            content = fetch(name)
            if hashlib.sha256(content).hexdigest() != sha256:
                raise PipelineError(
                    f"pipeline {manifest.name}",
                    f"{name} arrived with another SHA-256 than it was sent with",
                    "see to the network and memory of the Ray nodes; nothing of it was run",
                )
            file = partial / name
            if not file.resolve().is_relative_to(partial.resolve()):
                raise PipelineError(
                    f"pipeline {manifest.name}", f"{name} leads out of its folder", "do not run it"
                )
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    _log.info("parcel_fetched", pipeline=manifest.name, sha256=manifest.sha256, bytes=size)


def _is_whole(folder: Path, manifest: Manifest) -> bool:
    """Tell whether all files of a parcel are there and as they were sent, and no others."""
    there = {
        file.relative_to(folder).as_posix()
        for file in (folder.rglob("*") if folder.is_dir() else ())
        if file.is_file() and "__pycache__" not in file.parts and file.parent != folder / _BUNDLE
    }
    if there != set(manifest.files):
        return False
    return all(
        hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256
        for name, sha256 in manifest.files.items()
    )


def _home(cache_dir: Path | None) -> Path:
    """Return the cache, which nobody but us may write to: what lies there is run.

    Raises:
        PipelineError: It is not ours alone.
    """
    home = cache_dir or Path(tempfile.gettempdir()) / f"dicom-node-cache-{os.getuid()}"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = home.lstat()
    except OSError as error:
        raise PipelineError(
            f"cache folder {home}",
            f"it cannot be made: {error.strerror}",
            "name another in `ray.cache_dir`",
        ) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PipelineError(
            f"cache folder {home}",
            "others may write to it, or it is not ours",
            f"remove it, or give it to user {os.getuid()} with mode 0700",
        )
    return home


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Let one process of this machine at a time fetch a parcel."""
    with file.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _forget_old(home: Path) -> None:
    before = time.time() - _KEPT_DAYS * 86400
    for folder in home.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if folder.is_dir() and folder.stat().st_mtime < before:
                shutil.rmtree(folder, ignore_errors=True)
