"""Receiving: C-ECHO and C-STORE, acknowledged only when durable."""

from dicom_node.receive.server import Receiver, ReceiverSettings

__all__ = ["Receiver", "ReceiverSettings"]
