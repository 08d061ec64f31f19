"""Which storage SOP classes a C-GET proposes: those that the modalities at hand make.

An association holds 128 presentation contexts at most (PS3.8 section 9.3.2.2), and many PACS refuse
long lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from pydicom.uid import (
    JPEG2000,
    UID,
    BreastTomosynthesisImageStorage,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalIntraOralXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    EnhancedXAImageStorage,
    EnhancedXRFImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    LegacyConvertedEnhancedCTImageStorage,
    MRImageStorage,
    NuclearMedicineImageStorage,
    PositronEmissionTomographyImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)
from pynetdicom.presentation import PresentationContext, build_context

_X_RAY: Final = (
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ComputedRadiographyImageStorage,
)
_CT: Final = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
_BY_MODALITY: Final[Mapping[str, tuple[UID, ...]]] = {
    "CR": _X_RAY,
    "DX": _X_RAY,
    "DR": _X_RAY,
    "RG": _X_RAY,
    "PX": (*_X_RAY, DigitalIntraOralXRayImageStorageForPresentation),
    "MG": (
        DigitalMammographyXRayImageStorageForPresentation,
        DigitalMammographyXRayImageStorageForProcessing,
        BreastTomosynthesisImageStorage,
        ComputedRadiographyImageStorage,
    ),
    "CT": _CT,
    "MR": (MRImageStorage, EnhancedMRImageStorage),
    "PT": (PositronEmissionTomographyImageStorage, EnhancedPETImageStorage),
    "NM": (NuclearMedicineImageStorage,),
    "US": (UltrasoundImageStorage, UltrasoundMultiFrameImageStorage),
    "XA": (XRayAngiographicImageStorage, EnhancedXAImageStorage),
    "RF": (XRayRadiofluoroscopicImageStorage, EnhancedXRFImageStorage, *_X_RAY),
}
_UNCOMPRESSED: Final[list[str | UID]] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
_COMPRESSED: Final = (
    JPEGLosslessSV1,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEG2000,
    RLELossless,
)
_MOST: Final = 127


def storage_classes(modalities: Iterable[str]) -> list[UID]:
    """Return the classes that these modalities make; Secondary Capture comes from any."""
    found = {uid for name in modalities for uid in _BY_MODALITY.get(name, ())}
    return sorted({*found, SecondaryCaptureImageStorage})


def storage_contexts(modalities: Iterable[str]) -> list[PresentationContext]:
    """Return a context for each class and compression, as the acceptor chooses one of a context.

    The uncompressed ones come first, and are never left out when the limit is reached.
    """
    classes = storage_classes(modalities)
    contexts = [build_context(uid, _UNCOMPRESSED) for uid in classes]
    contexts += [build_context(uid, syntax) for syntax in _COMPRESSED for uid in classes]
    return contexts[:_MOST]
