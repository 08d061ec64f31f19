"""The same report in the other SOP classes, for peers that do not take the first."""

from __future__ import annotations

from io import BytesIO
from typing import Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_node.model.documents import DocumentClass
from dicom_node.results.basic_text import make_basic_text
from dicom_node.results.coded import declare_local_schemes
from dicom_node.results.origin import Origin
from dicom_node.results.sr import document_uid

OTHER_FORMS: Final = tuple(DocumentClass)[1:]
"""In which every SR is made, too (`sr_classes`)."""


def other_form(origin: Origin, encoded: bytes, kind: DocumentClass) -> Dataset:
    """Make another form of a report from its Comprehensive SR.

    Nothing in ours needs more than Enhanced SR allows (PS3.3 Table A.35.2-2), so that the
    content stays as it is; for Basic Text SR the numbers become texts. Read again and not built
    again by highdicom, which takes several times as long.

    Args:
        encoded: The Comprehensive SR as a DICOM file.
    """
    form = dcmread(BytesIO(encoded))
    form.SOPClassUID = form.file_meta.MediaStorageSOPClassUID = UID(kind.uid)
    uid = UID(document_uid(origin, kind))
    form.SOPInstanceUID = form.file_meta.MediaStorageSOPInstanceUID = uid
    # should a peer ever get two forms of one document, they are told apart
    form.InstanceNumber = tuple(DocumentClass).index(kind) + 1
    if origin.replaces is not None:
        # of the same SOP class if there is one: a peer that gets this form got the earlier's, too
        document = form.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
        earlier = document.ReferencedSOPSequence[0]
        earlier.ReferencedSOPClassUID, earlier.ReferencedSOPInstanceUID = (
            origin.replaces.document_of(kind.uid)
        )
    if kind is DocumentClass.BASIC_TEXT:
        make_basic_text(form)
        declare_local_schemes(form)
    return form
