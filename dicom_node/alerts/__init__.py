"""Alerts: what is wrong, whom to tell, and telling them."""

from dicom_node.alerts.channels import Channel, channel_of
from dicom_node.alerts.notes import Notice
from dicom_node.alerts.rules import Condition, conditions
from dicom_node.alerts.seen import Seen

__all__ = ["Channel", "Condition", "Notice", "Seen", "channel_of", "conditions"]
