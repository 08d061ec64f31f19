"""Procedure Reported (121058, DCM): the imaging procedure, from the group that TID 1500 names."""

from __future__ import annotations

from typing import Final

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as PydicomCode

from dicom_node.model.codes import Code
from dicom_node.results.headers import text_of

_BY_MODALITY: Final[dict[str, PydicomCode]] = {
    "CT": PydicomCode("25045-6", "LN", "CT unspecified body region"),
    "MR": PydicomCode("25056-3", "LN", "MRI unspecified body region"),
    "NM": PydicomCode("49118-3", "LN", "NM unspecified body region"),
    "PT": PydicomCode("44136-0", "LN", "PET unspecified body region"),
}
"""By Modality (0008,0060); of CID 100, Quantitative Diagnostic Imaging Procedures (PS3.16).

CID 100 has had a code for radiographs (43468-8, LN) for so short a time that the validators
refuse it still, so they get the group's general one.
"""

_ANY: Final[PydicomCode] = codes.SCT.ImagingProcedure

_OF_CID_100: Final = frozenset(
    (code.value, code.scheme_designator) for code in (*_BY_MODALITY.values(), _ANY)
)


def procedure_reported(procedure: Code, source: Dataset) -> PydicomCode:
    """The code for Procedure Reported: the pipeline's own if CID 100 has it, else the modality's.

    What the pipeline calls it stands in Performed Procedure Code Sequence, which is free.
    """
    if (procedure.value, procedure.scheme) in _OF_CID_100:
        return PydicomCode(procedure.value, procedure.scheme, procedure.meaning)
    return _BY_MODALITY.get(text_of(source, "Modality"), _ANY)
