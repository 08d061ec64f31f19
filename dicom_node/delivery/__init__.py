"""Delivery: the outbox's objects to their peers, each until it is there or has failed loudly."""

from dicom_node.delivery.answers import Answer, Destination, Outgoing, Verdict
from dicom_node.delivery.asking import ask, offers_commitment
from dicom_node.delivery.commitment import CommitmentAsker, take_report
from dicom_node.delivery.kinds import destination_for
from dicom_node.delivery.retry import RetryStrategy
from dicom_node.delivery.scu import CStore, echo, store
from dicom_node.delivery.sender import Outbox, PeerSender
from dicom_node.delivery.stow import StowRs
from dicom_node.requestor import ScuSettings

__all__ = [
    "Answer",
    "CStore",
    "CommitmentAsker",
    "Destination",
    "Outbox",
    "Outgoing",
    "PeerSender",
    "RetryStrategy",
    "ScuSettings",
    "StowRs",
    "Verdict",
    "ask",
    "destination_for",
    "echo",
    "offers_commitment",
    "store",
    "take_report",
]
