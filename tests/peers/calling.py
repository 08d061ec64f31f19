"""How the tests call peers: patiently, as the machine may be busy with others."""

from typing import Final

from dicom_node.requestor import ScuSettings

US: Final = ScuSettings("AINODE", connect_timeout=60, acse_timeout=60, dimse_timeout=120)
