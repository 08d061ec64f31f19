"""Our own codes (99DCMNODE): every concept for which no standard scheme was found.

The one list of them: the SR declares the scheme (Coding Scheme Identification Sequence) and the
conformance statement prints this table. `dicom.yaml` and the bundles' parts use these values.
A code value is at most 16 characters (SH, PS3.5 Table 6.2-1) and never changes its meaning.

Looked for and not found elsewhere: a Kellgren-Lawrence grade and its five values (LOINC 62900-6
is a protocol, not a grade), conformal prediction sets, reasons why software declined an image,
trabecular (volumetric) bone density by CT (LOINC's density terms are areal).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dicom_node.model.codes import OWN_SCHEME, Code

OWN_SCHEME_NAME: Final = "dicom-node codes"
OWN_SCHEME_ORGANIZATION: Final = "dicom-node"


def _own(value: str, meaning: str) -> Code:
    return Code(value, OWN_SCHEME, meaning)


# What the report says about how sure an answer is.
PREDICTION_SET: Final = _own("prediction-set", "Member of conformal prediction set")
COVERAGE: Final = _own("coverage", "Coverage of conformal prediction set")
CALIBRATED: Final = _own("calibrated", "Calibrated class probability")

BELONGS_TO: Final = _own("belongs-to", "Measurement that this belongs to")

NUMBER_FOUND: Final = _own("number-found", "Number of findings")

SALIENCY: Final = _own("saliency", "Saliency of the image for the answer")

REASON: Final = _own("not-eval-reason", "Reason why not evaluated")
SIDE_SOURCE: Final = _own("side-source", "Source of laterality")

# Reasons why not evaluated.
WRONG_BODY_PART: Final = _own("wrong-body-part", "Wrong body part")
WRONG_VIEW: Final = _own("wrong-view", "Wrong view")
SIDE_UNKNOWN: Final = _own("side-unknown", "Side of the body unknown")
NOTHING_FOUND: Final = _own("nothing-found", "Anatomy not found in the image")
OUT_OF_DISTRIBUTION: Final = _own("out-of-dist", "Unlike the images of training")
OUT_OF_VIEW: Final = _own("out-of-view", "Anatomy out of view")
METAL: Final = _own("metal", "Metal in the region")
LEVEL_UNCERTAIN: Final = _own("level-uncertain", "Vertebral level uncertain")
TOO_FEW_SLICES: Final = _own("too-few-slices", "Too few slices")
THICK_SLICES: Final = _own("slices-too-thick", "Slices too thick")
NOT_AXIAL: Final = _own("not-axial", "Not an axial series")
CONTRAST_GIVEN: Final = _own("contrast-given", "Contrast-enhanced image")
IMPLAUSIBLE_HU: Final = _own("implausible-hu", "Implausible attenuation")
FRACTURE_SUSPECTED: Final = _own("fracture-susp", "Vertebral fracture suspected")
UNFIT_KERNEL: Final = _own("unfit-kernel", "Reconstruction kernel unfit for evaluation")
UNFIT_VOLTAGE: Final = _own("unfit-voltage", "Tube voltage unfit for evaluation")
OTHER_SERIES_CHOSEN: Final = _own("other-series", "Another series of the study was chosen")
REGION_TOO_SMALL: Final = _own("region-too-small", "Region too small")
UNREADABLE: Final = _own("unreadable", "Pixels unreadable")
UNFIT_GEOMETRY: Final = _own("unfit-geometry", "Image geometry unfit for evaluation")
PROCESSING_FAILED: Final = _own("process-failed", "Processing failed")
NO_SUITABLE_IMAGE: Final = _own("no-image", "No suitable image in the study")

# Knee: Kellgren-Lawrence grade of osteoarthritis (Ann Rheum Dis 1957;16:494-502).
KL_GRADE: Final = _own("kl-grade", "Kellgren-Lawrence grade")
KL_0: Final = _own("kl-0", "Kellgren-Lawrence grade 0 (none)")
KL_1: Final = _own("kl-1", "Kellgren-Lawrence grade 1 (doubtful)")
KL_2: Final = _own("kl-2", "Kellgren-Lawrence grade 2 (minimal)")
KL_3: Final = _own("kl-3", "Kellgren-Lawrence grade 3 (moderate)")
KL_4: Final = _own("kl-4", "Kellgren-Lawrence grade 4 (severe)")

# Hip: internal fixation device; makers' models are data of the pipeline's catalogue.
FIXATION_DEVICE: Final = _own("fixation-device", "Internal fixation device of hip")
NO_DEVICE: Final = _own("no-device", "No internal fixation device")
NOT_IN_CATALOGUE: Final = _own("not-in-catalogue", "Device not in the catalogue")
DEVICE_MANUFACTURER: Final = _own("device-maker", "Manufacturer of implant")
DEVICE_MODEL: Final = _own("device-model", "Model of implant")
DEVICE_KIND: Final = _own("device-kind", "Kind of implant")
DEVICE_IDENTIFIER: Final = _own("device-udi-di", "Device identifier (UDI-DI) of implant")

# Bone density.
BONE_DENSITY_CLASS: Final = _own("bone-dens-class", "Bone density class")
TRABECULAR_BMD: Final = _own("trabecular-bmd", "Trabecular bone mineral density")
T_SCORE: Final = _own("t-score", "T-score against the configured reference")
TRABECULAR_REGION: Final = _own("trabecular-roi", "Trabecular region of vertebral body")

OWN_CODES: Final[Mapping[str, Code]] = {
    code.value: code for code in list(globals().values()) if isinstance(code, Code)
}
"""All of the above by code value."""
