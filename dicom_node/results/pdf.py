"""One page for viewers that show neither SR nor SC: Encapsulated PDF (PS3.3 A.45.1).

The picture stands on it as an image, the words as text, so that they can be searched and copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from io import BytesIO
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from dicom_node.model.findings import Findings
from dicom_node.model.pipeline import ResultObject
from dicom_node.results.captions import headline
from dicom_node.results.coded import concept_of
from dicom_node.results.derived import identity, make
from dicom_node.results.drawing import wrap
from dicom_node.results.groups import by_subject
from dicom_node.results.headers import text_of
from dicom_node.results.origin import Origin, restrictions

_KIND = ResultObject.PDF
_A4: Final = (8.27, 11.69)
"""Inches."""

_LONG_SIDE: Final = 1600
"""The picture is reduced to this: 200 dots an inch on the page; the SC has the whole of it."""

_MARGIN: Final = 0.08
_LINE: Final = 0.018
_WIDTH: Final = 1050
"""Pixels of a line at the font size 14 of `wrap`; as wide as the page at 9 points."""

Rgb = npt.NDArray[np.uint8]


def build_pdf(origin: Origin, pictures: Sequence[Dataset]) -> Iterator[Dataset]:
    """The page with the statement, the restrictions of use and the first picture.

    Names no patient; the viewer shows whose it is from the object's attributes.

    Args:
        pictures: The secondary captures of the same report.
    """
    yield make(origin, _KIND, partial(_build, origin, pictures))


def _build(origin: Origin, pictures: Sequence[Dataset]) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = EncapsulatedPDFStorage
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    facts = identity(origin, _KIND, 1)
    made.StudyInstanceUID = origin.sources.study_uid
    made.SeriesInstanceUID = facts["series_instance_uid"]
    made.SOPInstanceUID = facts["sop_instance_uid"]
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.SeriesNumber, made.InstanceNumber = facts["series_number"], facts["instance_number"]
    made.SeriesDescription = facts["series_description"]
    made.Modality = "DOC"
    made.Manufacturer = facts["manufacturer"]
    made.ManufacturerModelName = facts["manufacturer_model_name"]
    made.SoftwareVersions = facts["software_versions"]
    made.ConversionType = "WSD"
    made.ContentDate, made.ContentTime = facts["content_date"], facts["content_time"]
    made.AcquisitionDateTime = None
    # the picture is the source's: unless that says no, its pixels may name the patient
    said = text_of(origin.sources.first, "BurnedInAnnotation")
    made.BurnedInAnnotation = "NO" if said == "NO" else "YES"
    made.DocumentTitle = facts["series_description"]
    made.VerificationFlag = "UNVERIFIED"
    made.ConceptNameCodeSequence = [concept_of(codes.DCM.ImagingMeasurementReport)]
    made.SourceInstanceSequence = [_reference(header) for header in origin.sources.headers()]
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    page = _page(origin.findings, pictures)
    made.EncapsulatedDocumentLength = len(page)
    made.EncapsulatedDocument = page + b"\0" * (len(page) % 2)
    return made


def _reference(header: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = str(header.SOPClassUID)
    item.ReferencedSOPInstanceUID = str(header.SOPInstanceUID)
    return item


def _page(findings: Findings, pictures: Sequence[Dataset]) -> bytes:
    # half a second of a worker's start; most nodes make no PDF
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure

    figure = Figure(figsize=_A4)
    FigureCanvasPdf(figure)
    algorithm = findings.algorithm
    top = 1 - _MARGIN / 2
    figure.text(_MARGIN, top, algorithm.title, fontsize=15, weight="bold", va="top")
    top -= 2 * _LINE
    for text in restrictions(algorithm):
        figure.text(_MARGIN, top, text, fontsize=9, weight="bold", color="#a04000", va="top")
        top -= _LINE
    top -= _LINE / 2
    for paragraph in _words(findings):
        for line in wrap(paragraph, 14, _WIDTH):
            figure.text(_MARGIN, top, line, fontsize=9, va="top")
            top -= _LINE
        top -= _LINE / 3
    if pictures:
        axes = figure.add_axes((_MARGIN, _MARGIN, 1 - 2 * _MARGIN, max(0.2, top - _MARGIN)))
        axes.imshow(_reduced(pictures[0]))
        axes.set_anchor("N")
        axes.set_axis_off()
    foot = (
        f"{algorithm.name} {algorithm.version}, weights {algorithm.weights_sha256[:8]}, "
        f"{algorithm.manufacturer}"
    )
    figure.text(_MARGIN, _MARGIN / 2, foot, fontsize=7, color="#555555")
    out = BytesIO()
    # no date: the same findings make the same bytes
    figure.savefig(out, format="pdf", metadata={"CreationDate": None, "Title": algorithm.title})
    return out.getvalue()


def _words(findings: Findings) -> Iterator[str]:
    yield findings.statement
    for subject, items in by_subject(findings.items):
        said = headline(items)
        if said and said not in findings.statement:
            yield f"{subject.name}: {said}"
    yield from findings.notes


def _reduced(picture: Dataset) -> Rgb:
    pixels = np.frombuffer(picture.PixelData, np.uint8)
    size = int(picture.Rows) * int(picture.Columns) * 3
    image = Image.fromarray(pixels[:size].reshape(picture.Rows, picture.Columns, 3))
    image.thumbnail((_LONG_SIDE, _LONG_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)
