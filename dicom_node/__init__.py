"""dicom-node: a DICOM AI node that a hospital puts beside its PACS."""

__version__ = "0.1.0"
