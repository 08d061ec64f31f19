"""What goes between the worker and its actors: plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dicom_node.inference.files import DicomFile, InMemory
from dicom_node.inference.golden import Deviations
from dicom_node.inference.jobs import JobInput
from dicom_node.model.instances import InstanceFacts
from dicom_node.model.targets import Rejection
from dicom_node.serve.remote.parcel import Manifest

Content = npt.NDArray[np.uint8]
"""A file's bytes, as Ray's object store keeps them without a copy."""


@dataclass(frozen=True, slots=True)
class Order:
    """What an actor is to run, and how.

    Attributes:
        program: `parcel.program_hash` of the worker's own installation.
        memory_mb: Private memory that the actor may take; None: its share of the machine's.
        share: Of the machine's CPU cores, for that.
        selftest: Run the golden input once it is loaded.
    """

    manifest: Manifest
    program: str
    device: str
    threads: int
    cpu_fallback: bool
    deterministic: bool
    memory_mb: int | None
    share: float
    selftest: bool
    cache_dir: Path | None


@dataclass(frozen=True, slots=True)
class Ready:
    """An actor that can run jobs.

    Attributes:
        node_id: Ray's id of the machine that it is on.
        differs: What its self-test found; None: it has none, or was not run.
    """

    node_id: str
    device: str
    differs: Deviations


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an actor could not do what it was asked for; never holds patient data.

    Attributes:
        memory: It wanted more than its process may take: the actor is spent.
        kind: The error's class, for the worker's log.
    """

    what: str
    why: str
    fix: str
    memory: bool = False
    kind: str = ""


@dataclass(frozen=True, slots=True)
class RemoteJob:
    """A job without the bytes of its images, which go beside it through the object store."""

    names: tuple[str, ...]
    facts: tuple[InstanceFacts, ...]
    rejection: Rejection | None
    started: datetime

    @classmethod
    def of(cls, job: JobInput) -> RemoteJob:
        names = tuple(file.name for file in job.files)
        return cls(names, job.facts, job.rejection, job.started)

    def with_images(self, contents: Sequence[Content]) -> JobInput:
        """Return the job with its images in memory."""
        files = tuple(map(InMemory, self.names, contents))
        return JobInput(files, self.facts, self.rejection, self.started)


def content_of(file: DicomFile) -> Content:
    """Return a file's bytes; none when it cannot be read, which the actor tells as usual."""
    if isinstance(file, InMemory):
        return np.frombuffer(file.content, np.uint8)
    try:
        return np.fromfile(file, np.uint8)
    except OSError:
        return np.zeros(0, np.uint8)
