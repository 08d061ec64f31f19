"""Studies from peers: asked for by C-FIND or QIDO-RS, pulled by C-MOVE, C-GET or WADO-RS."""

from dicom_node.retrieve.calling import Line
from dicom_node.retrieve.days import studies_of_day
from dicom_node.retrieve.find import Finder
from dicom_node.retrieve.found import (
    Archive,
    Catalogue,
    FoundSeries,
    FoundStudies,
    FoundStudy,
    Incoming,
    Pulled,
    Receipt,
    Storage,
    StudyQuery,
)
from dicom_node.retrieve.get import GetArchive
from dicom_node.retrieve.http import Web
from dicom_node.retrieve.move import MoveArchive
from dicom_node.retrieve.web import WebArchive, WebFinder

__all__ = [
    "Archive",
    "Catalogue",
    "Finder",
    "FoundSeries",
    "FoundStudies",
    "FoundStudy",
    "GetArchive",
    "Incoming",
    "Line",
    "MoveArchive",
    "Pulled",
    "Receipt",
    "Storage",
    "StudyQuery",
    "Web",
    "WebArchive",
    "WebFinder",
    "studies_of_day",
]
