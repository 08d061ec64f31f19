"""Which events of the audit trail are told to the site's repository, and as what.

An event that is not named here stays in the node: it is a step of our own work, and no access to
anything. Sources: PS3.15 section A.5.3; codes of PS3.16 CID 400, 401, 402 and 403.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from dicom_node.model.codes import Code


def _dcm(value: str, meaning: str) -> Code:
    return Code(value, "DCM", meaning)


APPLICATION_ACTIVITY: Final = _dcm("110100", "Application Activity")
AUDIT_LOG_USED: Final = _dcm("110101", "Audit Log Used")
BEGIN_TRANSFERRING: Final = _dcm("110102", "Begin Transferring DICOM Instances")
INSTANCES_ACCESSED: Final = _dcm("110103", "DICOM Instances Accessed")
INSTANCES_TRANSFERRED: Final = _dcm("110104", "DICOM Instances Transferred")
STUDY_DELETED: Final = _dcm("110105", "DICOM Study Deleted")
SECURITY_ALERT: Final = _dcm("110113", "Security Alert")
USER_AUTHENTICATION: Final = _dcm("110114", "User Authentication")

APPLICATION_START: Final = _dcm("110120", "Application Start")
APPLICATION_STOP: Final = _dcm("110121", "Application Stop")
LOGIN: Final = _dcm("110122", "Login")
LOGOUT: Final = _dcm("110123", "Logout")
NODE_AUTHENTICATION: Final = _dcm("110126", "Node Authentication")
NETWORK_CONFIGURATION: Final = _dcm("110128", "Network Configuration")
RESTRICTED_FUNCTION: Final = _dcm("110132", "Use of Restricted Function")
USER_ATTRIBUTES_CHANGED: Final = _dcm("110137", "User Security Attributes Changed")

APPLICATION: Final = _dcm("110150", "Application")
DESTINATION: Final = _dcm("110152", "Destination Role ID")
SOURCE: Final = _dcm("110153", "Source Role ID")
STUDY_INSTANCE_UID: Final = _dcm("110180", "Study Instance UID")


class Shape(StrEnum):
    """Who takes part."""

    OURSELVES = "ourselves"
    FROM_PEER = "from a peer to us"
    PULLED = "from a peer to us, who asked for it"
    TO_PEER = "from us to a peer"
    CALLER = "a caller of ours"
    PERSON = "a person"


Action = Literal["C", "R", "U", "D", "E"]
Outcome = Literal["0", "4", "8", "12"]


@dataclass(frozen=True, slots=True)
class Told:
    """How an event of ours is told: EventID, action, outcome, who takes part, EventTypeCode."""

    event: Code
    action: Action
    shape: Shape
    outcome: Outcome = "0"
    type: Code | None = None


MAPPED: Final[Mapping[str, Told]] = {
    "role_started": Told(APPLICATION_ACTIVITY, "E", Shape.OURSELVES, type=APPLICATION_START),
    "role_ended": Told(APPLICATION_ACTIVITY, "E", Shape.OURSELVES, type=APPLICATION_STOP),
    "instances_received": Told(INSTANCES_TRANSFERRED, "C", Shape.FROM_PEER),
    "instance_refused": Told(INSTANCES_TRANSFERRED, "C", Shape.CALLER, "4"),
    "study_asked_for": Told(BEGIN_TRANSFERRING, "E", Shape.PULLED),
    "study_pulled": Told(INSTANCES_TRANSFERRED, "C", Shape.PULLED),
    "study_not_pulled": Told(INSTANCES_TRANSFERRED, "C", Shape.PULLED, "8"),
    "report_sent": Told(INSTANCES_TRANSFERRED, "C", Shape.TO_PEER),
    "report_delayed": Told(INSTANCES_TRANSFERRED, "C", Shape.TO_PEER, "4"),
    "report_failed": Told(INSTANCES_TRANSFERRED, "C", Shape.TO_PEER, "8"),
    "job_finished": Told(INSTANCES_ACCESSED, "C", Shape.OURSELVES),
    "job_failed": Told(INSTANCES_ACCESSED, "R", Shape.OURSELVES, "8"),
    "job_retried": Told(INSTANCES_ACCESSED, "R", Shape.PERSON),
    "resend_asked": Told(INSTANCES_ACCESSED, "R", Shape.PERSON),
    "study_released": Told(INSTANCES_ACCESSED, "U", Shape.PERSON),
    "study_discarded": Told(INSTANCES_ACCESSED, "U", Shape.PERSON),
    "patients_shown": Told(INSTANCES_ACCESSED, "R", Shape.PERSON),
    "images_purged": Told(STUDY_DELETED, "D", Shape.OURSELVES),
    "records_purged": Told(STUDY_DELETED, "D", Shape.OURSELVES),
    "reports_purged": Told(INSTANCES_ACCESSED, "D", Shape.OURSELVES),
    "files_not_removed": Told(STUDY_DELETED, "D", Shape.OURSELVES, "8"),
    "association_rejected": Told(SECURITY_ALERT, "E", Shape.CALLER, "4", type=NODE_AUTHENTICATION),
    "connection_refused": Told(SECURITY_ALERT, "E", Shape.CALLER, "4", type=NODE_AUTHENTICATION),
    "commitment_report_refused": Told(
        SECURITY_ALERT, "E", Shape.CALLER, "4", type=NODE_AUTHENTICATION
    ),
    **dict.fromkeys(
        ("configuration_applied", "configuration_reloaded", "host_forgotten"),
        Told(SECURITY_ALERT, "E", Shape.PERSON, type=NETWORK_CONFIGURATION),
    ),
    **dict.fromkeys(
        (
            "user_added",
            "user_removed",
            "user_role_changed",
            "user_password_changed",
            "token_added",
            "token_revoked",
        ),
        Told(SECURITY_ALERT, "E", Shape.PERSON, type=USER_ATTRIBUTES_CHANGED),
    ),
    "access_denied": Told(SECURITY_ALERT, "E", Shape.PERSON, "4", type=RESTRICTED_FUNCTION),
    "audit_deviations_accepted": Told(
        SECURITY_ALERT, "E", Shape.PERSON, "8", type=RESTRICTED_FUNCTION
    ),
    "login": Told(USER_AUTHENTICATION, "E", Shape.PERSON, type=LOGIN),
    "login_failed": Told(USER_AUTHENTICATION, "E", Shape.PERSON, "4", type=LOGIN),
    "login_refused": Told(USER_AUTHENTICATION, "E", Shape.PERSON, "4", type=LOGIN),
    "logout": Told(USER_AUTHENTICATION, "E", Shape.PERSON, type=LOGOUT),
    "audit_log_read": Told(AUDIT_LOG_USED, "R", Shape.PERSON),
}
