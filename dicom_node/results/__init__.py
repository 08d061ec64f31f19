"""Findings to DICOM objects: structured report, secondary capture."""
