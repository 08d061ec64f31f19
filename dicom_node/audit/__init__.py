"""Audit messages of DICOM PS3.15 A.5, made of the audit trail."""

from dicom_node.audit.kinds import MAPPED
from dicom_node.audit.messages import Identity, identity_of, message_of

__all__ = ["MAPPED", "Identity", "identity_of", "message_of"]
