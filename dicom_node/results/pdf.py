"""A page for viewers that show neither SR nor SC: Encapsulated PDF (PS3.3 A.45.1).

More pages where the words need them. The picture stands there as an image, the words as text,
so that they can be searched and copied.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from dicom_node.model.findings import Algorithm, Findings
from dicom_node.model.pipeline import ResultObject
from dicom_node.results.captions import headline
from dicom_node.results.coded import concept_of
from dicom_node.results.derived import identity, make
from dicom_node.results.drawing import wrap
from dicom_node.results.groups import by_subject
from dicom_node.results.headers import text_of
from dicom_node.results.origin import Origin, restrictions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KIND = ResultObject.PDF
_A4: Final = (8.27, 11.69)
"""Inches."""

_LONG_SIDE: Final = 1600
"""The picture is reduced to this: 200 dots an inch on the page; the SC has the whole of it."""

_MARGIN: Final = 0.08
_TOP: Final = 1 - _MARGIN / 2
_LINE: Final = 0.018
_TITLE: Final = 2 * _LINE
_LEAST_PICTURE: Final = 0.25
"""Of the page's height: with less room left the picture has a page of its own."""

_WRAP_SIZE: Final = 14
_TEXT_SIZE: Final = 9
_WIDTH: Final = int((1 - 2 * _MARGIN) * _A4[0] * 72 * _WRAP_SIZE / _TEXT_SIZE)
"""Pixels of a line at the font size of `wrap`; as wide as the page's text at its size in points."""

Rgb = npt.NDArray[np.uint8]
_Line = tuple[float, str]
"""Where its top is, 0 to 1 from the foot of the page, and what it says."""


def build_pdf(origin: Origin, pictures: Sequence[Dataset]) -> Iterator[Dataset]:
    """The statement, what was found of each subject, and the first picture.

    Each page has the restrictions of use and its number. Names no patient; the viewer shows
    whose it is from the object's attributes.

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
    said = {text_of(picture, "BurnedInAnnotation") for picture in pictures[:1]}
    made.BurnedInAnnotation = "NO" if said <= {"NO"} else "YES"
    made.DocumentTitle = facts["series_description"]
    made.VerificationFlag = "UNVERIFIED"
    made.ConceptNameCodeSequence = [concept_of(codes.DCM.ImagingMeasurementReport)]
    made.SourceInstanceSequence = [_reference(header) for header in origin.sources.headers()]
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document = _document(origin.findings, pictures)
    made.EncapsulatedDocumentLength = len(document)
    made.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    return made


def _reference(header: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = str(header.SOPClassUID)
    item.ReferencedSOPInstanceUID = str(header.SOPInstanceUID)
    return item


def _document(findings: Findings, pictures: Sequence[Dataset]) -> bytes:
    # half a second of a worker's start; most nodes make no PDF
    from matplotlib.backends.backend_pdf import PdfPages

    algorithm = findings.algorithm
    pages, end = _laid_out(findings)
    if pictures and end - _MARGIN < _LEAST_PICTURE:
        pages, end = [*pages, ()], _text_top(algorithm)
    out = BytesIO()
    # no date: the same findings make the same bytes
    with PdfPages(out, metadata={"CreationDate": None, "Title": algorithm.title}) as document:
        for number, lines in enumerate(pages, start=1):
            figure = _sheet(algorithm, lines, f"page {number} of {len(pages)}")
            if pictures and number == len(pages):
                axes = figure.add_axes((_MARGIN, _MARGIN, 1 - 2 * _MARGIN, end - _MARGIN))
                axes.imshow(_reduced(pictures[0]))
                axes.set_anchor("N")
                axes.set_axis_off()
            document.savefig(figure)
    return out.getvalue()


def _sheet(algorithm: Algorithm, lines: Sequence[_Line], page: str) -> Figure:
    """A page with what each must say of itself, and its lines."""
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure

    figure = Figure(figsize=_A4)
    FigureCanvasPdf(figure)
    top = _TOP
    figure.text(_MARGIN, top, algorithm.title, fontsize=15, weight="bold", va="top")
    top -= _TITLE
    for text in restrictions(algorithm):
        figure.text(_MARGIN, top, text, fontsize=9, weight="bold", color="#a04000", va="top")
        top -= _LINE
    for at, text in lines:
        figure.text(_MARGIN, at, text, fontsize=_TEXT_SIZE, va="top")
    foot = (
        f"{algorithm.name} {algorithm.version}, weights {algorithm.weights_sha256[:8]}, "
        f"{algorithm.manufacturer}"
    )
    figure.text(_MARGIN, _MARGIN / 2, foot, fontsize=7, color="#555555")
    figure.text(1 - _MARGIN, _MARGIN / 2, page, fontsize=7, color="#555555", ha="right")
    return figure


def _laid_out(findings: Findings) -> tuple[list[Sequence[_Line]], float]:
    """The lines of each page, and where those of the last one end."""
    top = _text_top(findings.algorithm)
    pages: list[list[_Line]] = [[]]
    for paragraph in _words(findings):
        for line in wrap(paragraph, _WRAP_SIZE, _WIDTH):
            if top - _LINE < _MARGIN:
                pages.append([])
                top = _text_top(findings.algorithm)
            pages[-1].append((top, line))
            top -= _LINE
        top -= _LINE / 3
    return [*pages], top


def _text_top(algorithm: Algorithm) -> float:
    return _TOP - _TITLE - (len(restrictions(algorithm)) + 0.5) * _LINE


def _words(findings: Findings) -> Iterator[str]:
    yield findings.statement
    for subject, items in by_subject(findings.items):
        said = headline(items)
        line = f"{subject.name}: {said}"
        if said and not _is_said(line, findings.statement):
            yield line
    yield from findings.notes


def _is_said(line: str, statement: str) -> bool:
    """Whether the statement holds a line as it is: "liver: 2 cm" is not in "Liver: 2 cm/s"."""
    whole = rf"(?<!\w){re.escape(line)}(?!\w|/|[.,]\d)"
    return re.search(whole, statement, re.IGNORECASE) is not None


def _reduced(picture: Dataset) -> Rgb:
    pixels = np.frombuffer(picture.PixelData, np.uint8)
    size = int(picture.Rows) * int(picture.Columns) * 3
    image = Image.fromarray(pixels[:size].reshape(picture.Rows, picture.Columns, 3))
    image.thumbnail((_LONG_SIDE, _LONG_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)
