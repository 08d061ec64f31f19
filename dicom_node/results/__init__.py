"""Findings to DICOM objects: structured report, secondary capture."""

from dicom_node.results.check import check_object
from dicom_node.results.report import LeftOut, Pictures, Report, ReportObject, build_report
from dicom_node.results.text import report_text

__all__ = [
    "LeftOut",
    "Pictures",
    "Report",
    "ReportObject",
    "build_report",
    "check_object",
    "report_text",
]
