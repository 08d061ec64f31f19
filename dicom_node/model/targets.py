"""What a bundle's own parts (locator, gate) exchange with the engine that runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dicom_node.model.codes import Code
from dicom_node.model.findings import Side


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an image or a target is not evaluated: coded, and as the reader's sentence."""

    reason: Code
    text: str


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to evaluate in an image or a volume, as a bundle's locator found it.

    Attributes:
        name: What a person calls it, unique in the image ("right knee", "L2").
        side: UNKNOWN when nothing tells; never guessed.
        side_source: Where the side came from.
        anatomy: Its code; None: the pipeline's.
        box: (left, top, width, height) in source pixels; None: the whole image. May reach
            beyond the image: what lies outside is filled with 0.
        mirror: Mirror left-right after cropping (the network knows one side only).
        slices: Indices (from 0) along a volume's last axis that belong to the target.
        extras: Anything the bundle's own preprocessing needs, by name.
        rejection: Found, but not to be evaluated.
    """

    name: str
    side: Side = Side.NONE
    side_source: str = ""
    anatomy: Code | None = None
    box: tuple[int, int, int, int] | None = None
    mirror: bool = False
    slices: tuple[int, ...] = ()
    extras: Mapping[str, Any] = field(default_factory=dict)
    rejection: Rejection | None = None


@dataclass(frozen=True, slots=True)
class SeriesCandidate:
    """One of a study's series, as its headers tell, for a bundle's chooser.

    Attributes:
        attributes: Those of its first instance.
        problem: Why its images make no volume; None when they do.
        spacing_mm: From slice to slice; 0 with a problem.
        coverage_mm: From the first to the last slice, both whole; 0 with a problem.
        axial: Whether the slices lie across the body, more or less.
    """

    attributes: Mapping[str, Any]
    images: int
    problem: str | None = None
    spacing_mm: float = 0.0
    coverage_mm: float = 0.0
    axial: bool = False


@dataclass(frozen=True, slots=True)
class SeriesChoice:
    """Which of the candidates is read, and why, for the reader."""

    index: int
    why: str
