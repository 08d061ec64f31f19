"""What an executor is given and what it returns: plain data, whichever machine runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from dicom_node.inference.files import DicomFile
from dicom_node.model.findings import Findings
from dicom_node.model.instances import InstanceFacts
from dicom_node.model.targets import Rejection


@dataclass(frozen=True, slots=True)
class JobInput:
    """The images of one job.

    Attributes:
        files: DICOM files, on disk or in memory, in the order of `facts`.
        rejection: Set when routing found no image that fits: the pipeline is not run, and the
            report says why.
        started: When the analysis begins (UTC).
    """

    files: tuple[DicomFile, ...]
    facts: tuple[InstanceFacts, ...]
    rejection: Rejection | None
    started: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job made.

    Attributes:
        pictures: What is shown of each image, [H, W], bright bone, by `ImageReference.key`.
        record: Device, precision and versions that the findings depend on.
    """

    findings: Findings
    pictures: Mapping[str, npt.NDArray[np.uint8]]
    record: Mapping[str, Any] = field(default_factory=dict)
