"""Our plain codes as highdicom's coded concepts, and the schemes that they come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as PydicomCode

from dicom_node.errors import ReportError
from dicom_node.model.codes import OWN_SCHEME, Code
from dicom_node.model.own_codes import OWN_SCHEME_NAME, OWN_SCHEME_ORGANIZATION

PERCENT: Final = PydicomCode("%", "UCUM", "percent")


def concept(code: Code) -> CodedConcept:
    """Encode a code.

    Raises:
        ReportError: A part is empty, or the meaning is longer than 64 characters (LO).
    """
    if not (code.value and code.scheme and code.meaning):
        raise ReportError(
            f"code {code}", "value, scheme and meaning must not be empty", "complete it"
        )
    if len(code.meaning) > 64 or len(code.scheme) > 16:
        raise ReportError(
            f"code {code}",
            "a meaning has at most 64 characters, a scheme 16",
            "shorten it in the pipeline's dicom.yaml",
        )
    return CodedConcept(code.value, code.scheme, code.meaning)


def concept_of(code: PydicomCode) -> CodedConcept:
    """Encode a code of pydicom's dictionary."""
    return CodedConcept.from_code(code)


def coded_items(dataset: Dataset) -> Iterator[Dataset]:
    """Every item of every code sequence of a data set, at any depth."""
    for element in dataset:
        if element.VR != "SQ":
            continue
        for item in element.value or []:
            if "CodingSchemeDesignator" in item and "CodeMeaning" in item:
                yield item
            yield from coded_items(item)


def used_schemes(dataset: Dataset) -> set[str]:
    """Coding scheme designators used anywhere in a data set."""
    return {str(item.CodingSchemeDesignator) for item in coded_items(dataset)}


def declare_local_schemes(dataset: Dataset) -> None:
    """Give a data set the Coding Scheme Identification (PS3.3 C.12.1.1.1) of its local schemes.

    Local are those whose designator begins with "99" (PS3.16 section 8): ours, which is named
    in full, and a site's, of which we know the designator only.
    """
    items: list[Dataset] = []
    for scheme in sorted(used_schemes(dataset)):
        if scheme == OWN_SCHEME:
            items.append(
                CodingSchemeIdentificationItem(
                    scheme,
                    name=OWN_SCHEME_NAME,
                    responsible_organization=OWN_SCHEME_ORGANIZATION,
                )
            )
        elif scheme.startswith("99"):
            items.append(CodingSchemeIdentificationItem(scheme))
    if items:
        dataset.CodingSchemeIdentificationSequence = items
    elif "CodingSchemeIdentificationSequence" in dataset:
        del dataset.CodingSchemeIdentificationSequence
