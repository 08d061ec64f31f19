"""Names of subjects: unique in a job, and no longer than they need be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from dicom_node.model.findings import Finding, Subject


def told_apart(found: Sequence[tuple[str, Sequence[Finding]]]) -> list[Finding]:
    """Return all findings with names that tell their subjects apart.

    Args:
        found: The findings of each image or series, with its label.

    A name that stands alone stays; one that occurs in several images gets their labels
    ("right knee (image 2)"); what is then still the same is counted.
    """
    subjects = [[*dict.fromkeys(item.subject for item in items)] for _, items in found]
    times = Counter(subject.name for group in subjects for subject in group)
    taken: set[str] = set()
    named: list[Finding] = []
    for (label, items), group in zip(found, subjects, strict=True):
        names: dict[Subject, Subject] = {}
        for subject in group:
            name = subject.name
            if label and times[name] > 1:
                name = f"{name} ({label})"
            name = _free(name, taken)
            taken.add(name)
            names[subject] = replace(subject, name=name)
        named += [replace(item, subject=names[item.subject]) for item in items]
    return named


def _free(name: str, taken: set[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name} {number}"
    return free
