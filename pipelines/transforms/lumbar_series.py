"""Which of a study's CT series is read for bone density, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dicom_node.model.contrast import contrast_given
from dicom_node.model.targets import SeriesCandidate, SeriesChoice
from pipelines.transforms.lumbar_kernels import is_sharp

_BEST_MM: Final = 3.0
"""Slices of this thickness carry little noise and little of the end plates."""


class SeriesChooser:
    """Callable for the engine: the series with the fewest faults, by header alone.

    A series that makes no volume comes last; then the number of faults counts (not axial, contrast,
    too thick slices, a sharp kernel, too little coverage); of equals the spacing nearest to 3 mm,
    then the longest, then the first.

    Args:
        max_thickness_mm, min_coverage_mm: As the locator's limits.
    """

    def __init__(self, max_thickness_mm: float = 5.0, min_coverage_mm: float = 100.0) -> None:
        self.max_thickness_mm = max_thickness_mm
        self.min_coverage_mm = min_coverage_mm

    def __call__(self, candidates: Sequence[SeriesCandidate]) -> SeriesChoice:
        faults = [self.faults(candidate) for candidate in candidates]
        best = min(range(len(candidates)), key=lambda n: self._rank(candidates[n], faults[n], n))
        chosen = candidates[best]
        others = [
            f"series {_number(candidate, n)}: {found[0] if found else 'less suitable'}"
            for n, (candidate, found) in enumerate(zip(candidates, faults, strict=True))
            if n != best
        ]
        kernel = str(chosen.attributes.get("ConvolutionKernel") or "not stated")
        return SeriesChoice(
            best,
            f"series {_number(chosen, best)} was read of {len(candidates)} "
            f"({chosen.images} images, {chosen.spacing_mm:.1f} mm apart, "
            f"{chosen.coverage_mm:.0f} mm, kernel {kernel}); not read: {'; '.join(others)}",
        )

    def faults(self, candidate: SeriesCandidate) -> list[str]:
        """Name what speaks against a series, the gravest first."""
        thickness = candidate.attributes.get("SliceThickness")
        thick = max(
            candidate.spacing_mm, float(thickness) if isinstance(thickness, int | float) else 0.0
        )
        found = {
            candidate.problem or "": candidate.problem is not None,
            "not axial": not candidate.axial,
            "contrast was given": contrast_given(candidate.attributes) is not None,
            f"slices of {thick:.1f} mm": thick > self.max_thickness_mm + 0.05,
            "a sharp kernel": _sharp(candidate.attributes),
            f"only {candidate.coverage_mm:.0f} mm": candidate.coverage_mm < self.min_coverage_mm,
        }
        return [text for text, holds in found.items() if holds]

    def _rank(
        self, candidate: SeriesCandidate, faults: Sequence[str], place: int
    ) -> tuple[bool, int, float, float, int]:
        return (
            candidate.problem is not None,
            len(faults),
            round(abs(candidate.spacing_mm - _BEST_MM), 1),
            -candidate.coverage_mm,
            place,
        )


def _sharp(attributes: Mapping[str, Any]) -> bool:
    kernels = attributes.get("ConvolutionKernel")
    values = kernels if isinstance(kernels, list | tuple) else [kernels]
    return any(is_sharp(str(kernel)) for kernel in values if kernel)


def _number(candidate: SeriesCandidate, place: int) -> str:
    number = candidate.attributes.get("SeriesNumber")
    return f"{number:g}" if isinstance(number, int | float) else f"at place {place + 1}"
