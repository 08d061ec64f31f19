"""Who observed: the algorithm as a device (TID 1004)."""

from __future__ import annotations

from highdicom.sr import DeviceObserverIdentifyingAttributes, ObserverContext
from pydicom.sr.codedict import codes

from dicom_node.model.findings import Algorithm


def device_observer(algorithm: Algorithm) -> ObserverContext:
    """Observer context with the Device UID, which changes with every retraining."""
    return ObserverContext(
        codes.DCM.Device,
        DeviceObserverIdentifyingAttributes(
            uid=algorithm.device_uid,
            name=algorithm.title,
            manufacturer_name=algorithm.manufacturer,
            model_name=algorithm.name,
        ),
    )
