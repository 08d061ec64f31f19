"""Routing: which pipelines run on a study, and why."""

from dicom_node.routing.router import decide

__all__ = ["decide"]
