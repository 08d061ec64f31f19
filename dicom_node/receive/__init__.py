"""Receiving: C-ECHO and C-STORE, acknowledged only when durable."""

from dicom_node.receive.server import Receiver
from dicom_node.receive.settings import ClientCertificate, ReceiverSettings, TlsSettings

__all__ = ["ClientCertificate", "Receiver", "ReceiverSettings", "TlsSettings"]
