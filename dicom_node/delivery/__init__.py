"""Delivery: the outbox's objects to their peers, each until it is there or has failed loudly."""

from dicom_node.delivery.retry import RetryStrategy
from dicom_node.delivery.scu import Answer, Outgoing, ScuSettings, Verdict, echo, store
from dicom_node.delivery.sender import Outbox, PeerSender

__all__ = [
    "Answer",
    "Outbox",
    "Outgoing",
    "PeerSender",
    "RetryStrategy",
    "ScuSettings",
    "Verdict",
    "echo",
    "store",
]
