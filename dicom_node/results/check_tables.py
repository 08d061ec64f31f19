"""What every object must have, as tables for `check`.

Sources: PS3.3 A.8.1 (Secondary Capture Image IOD), A.33.1 (Grayscale Softcopy Presentation
State), A.35.1 (Basic Text SR), A.35.2 (Enhanced SR), A.35.3 (Comprehensive SR), A.35.4 (Key Object
Selection), A.45.1 (Encapsulated PDF), A.51 (Segmentation), A.75 (Parametric Map) with their
modules' types; PS3.3 Tables A.35.1-2, A.35.2-2, A.35.3-2 (relationships); PS3.16 TID 1500, 1501,
1004, 4019; IHE AI Results 6.5.3.1.
"""

from __future__ import annotations

from typing import Final

SR_CLASS: Final = "1.2.840.10008.5.1.4.1.1.88.33"
ENHANCED_CLASS: Final = "1.2.840.10008.5.1.4.1.1.88.22"
TEXT_CLASS: Final = "1.2.840.10008.5.1.4.1.1.88.11"
SC_CLASS: Final = "1.2.840.10008.5.1.4.1.1.7"
SEG_CLASS: Final = "1.2.840.10008.5.1.4.1.1.66.4"
PR_CLASS: Final = "1.2.840.10008.5.1.4.1.1.11.1"
PM_CLASS: Final = "1.2.840.10008.5.1.4.1.1.30"
KO_CLASS: Final = "1.2.840.10008.5.1.4.1.1.88.59"
PDF_CLASS: Final = "1.2.840.10008.5.1.4.1.1.104.1"

COMMON_TYPE_1: Final = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "SeriesNumber",
    "InstanceNumber",
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "SeriesDescription",
    "ContributingEquipmentSequence",
)

_CONTENT: Final = ("ContentDate", "ContentTime")

_FRAMES: Final = (
    "DeviceSerialNumber",
    "ImageType",
    "ContentLabel",
    "FrameOfReferenceUID",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "DimensionOrganizationSequence",
    "DimensionIndexSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "PixelData",
)
"""Of the multi-frame images (PS3.3 C.7.6.16, C.7.6.17)."""

_DOCUMENT: Final = (
    *COMMON_TYPE_1,
    *_CONTENT,
    "CompletionFlag",
    "VerificationFlag",
    "ValueType",
    "ConceptNameCodeSequence",
    "ContinuityOfContent",
    "ContentSequence",
    "CurrentRequestedProcedureEvidenceSequence",
)

TYPE_1: Final = {
    SR_CLASS: (*_DOCUMENT, "ContentTemplateSequence"),
    ENHANCED_CLASS: (*_DOCUMENT, "ContentTemplateSequence"),
    TEXT_CLASS: _DOCUMENT,
    SC_CLASS: (
        *COMMON_TYPE_1,
        *_CONTENT,
        "ConversionType",
        "ImageType",
        "SourceImageSequence",
        "DerivationDescription",
        "Rows",
        "Columns",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PlanarConfiguration",
        "PixelData",
    ),
    SEG_CLASS: (*COMMON_TYPE_1, *_CONTENT, *_FRAMES, "SegmentSequence", "ReferencedSeriesSequence"),
    PM_CLASS: (*COMMON_TYPE_1, *_CONTENT, *_FRAMES, "ContentQualification"),
    PR_CLASS: (
        *COMMON_TYPE_1,
        "DeviceSerialNumber",
        "PresentationCreationDate",
        "PresentationCreationTime",
        "ContentLabel",
        "ReferencedSeriesSequence",
        "DisplayedAreaSelectionSequence",
        "GraphicAnnotationSequence",
        "GraphicLayerSequence",
        "PresentationLUTShape",
    ),
    KO_CLASS: (
        *COMMON_TYPE_1,
        *_CONTENT,
        "ValueType",
        "ConceptNameCodeSequence",
        "ContinuityOfContent",
        "ContentTemplateSequence",
        "ContentSequence",
        "CurrentRequestedProcedureEvidenceSequence",
    ),
    PDF_CLASS: (
        *COMMON_TYPE_1,
        *_CONTENT,
        "ConversionType",
        "BurnedInAnnotation",
        "SourceInstanceSequence",
        "MIMETypeOfEncapsulatedDocument",
        "EncapsulatedDocument",
        "EncapsulatedDocumentLength",
    ),
}

_DOCUMENT_TYPE_2: Final = (
    "ReferencedPerformedProcedureStepSequence",
    "PerformedProcedureCodeSequence",
)

TYPE_2: Final = {
    SR_CLASS: _DOCUMENT_TYPE_2,
    ENHANCED_CLASS: _DOCUMENT_TYPE_2,
    TEXT_CLASS: _DOCUMENT_TYPE_2,
    SC_CLASS: ("PatientOrientation",),
    SEG_CLASS: ("ContentDescription", "ContentCreatorName", "PositionReferenceIndicator"),
    PM_CLASS: ("ContentDescription", "ContentCreatorName", "PositionReferenceIndicator"),
    PR_CLASS: ("ContentDescription", "ContentCreatorName"),
    KO_CLASS: ("ReferencedPerformedProcedureStepSequence",),
    PDF_CLASS: ("AcquisitionDateTime", "DocumentTitle", "ConceptNameCodeSequence"),
}

_DOCUMENT_FIXED: Final[dict[str, object]] = {
    "Modality": "SR",
    "CompletionFlag": "COMPLETE",
    "VerificationFlag": "UNVERIFIED",
    "ValueType": "CONTAINER",
}

FIXED: Final[dict[str, dict[str, object]]] = {
    SR_CLASS: _DOCUMENT_FIXED,
    ENHANCED_CLASS: _DOCUMENT_FIXED,
    TEXT_CLASS: _DOCUMENT_FIXED,
    SC_CLASS: {
        "ConversionType": "WSD",
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "RGB",
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "PlanarConfiguration": 0,
    },
    SEG_CLASS: {
        "Modality": "SEG",
        "SegmentationType": "BINARY",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 1,
    },
    PM_CLASS: {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "ContentQualification": "RESEARCH",
    },
    PR_CLASS: {"Modality": "PR"},
    KO_CLASS: {"Modality": "KO", "ValueType": "CONTAINER"},
    PDF_CLASS: {
        "Modality": "DOC",
        "ConversionType": "WSD",
        "VerificationFlag": "UNVERIFIED",
        "MIMETypeOfEncapsulatedDocument": "application/pdf",
    },
}

EQUIPMENT_TYPE_1: Final = (
    "PurposeOfReferenceCodeSequence",
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "DeviceUID",
)

Relationships = dict[str, tuple[frozenset[str], frozenset[str]]]
"""Relationship to (value types of the parent, value types of the child), by value."""

_SIMPLE: Final = frozenset({"TEXT", "CODE", "NUM", "DATETIME", "DATE", "TIME", "UIDREF", "PNAME"})
_OBJECTS: Final = frozenset({"IMAGE", "WAVEFORM", "COMPOSITE"})
_ANY: Final = _SIMPLE | _OBJECTS | {"SCOORD", "TCOORD", "CONTAINER"}
_VALUES: Final = frozenset({"TEXT", "CODE", "NUM"})

_COMPREHENSIVE: Final[Relationships] = {
    "CONTAINS": (frozenset({"CONTAINER"}), _ANY),
    "HAS OBS CONTEXT": (frozenset({"CONTAINER"}) | _VALUES, _SIMPLE | {"COMPOSITE"}),
    "HAS ACQ CONTEXT": (frozenset({"CONTAINER"}) | _OBJECTS, _SIMPLE | {"CONTAINER"}),
    "HAS CONCEPT MOD": (_ANY, frozenset({"TEXT", "CODE"})),
    "HAS PROPERTIES": (_VALUES, _ANY),
    "INFERRED FROM": (_VALUES, _ANY),
    "SELECTED FROM": (frozenset({"SCOORD", "TCOORD"}), _OBJECTS | {"SCOORD"}),
}
"""PS3.3 Table A.35.3-2."""

_LEAVES: Final = _ANY - {"CONTAINER"}

_ENHANCED: Final[Relationships] = {
    **_COMPREHENSIVE,
    "HAS OBS CONTEXT": (frozenset({"CONTAINER"}), _SIMPLE | {"COMPOSITE"}),
    "HAS ACQ CONTEXT": (frozenset({"CONTAINER"}) | _OBJECTS, _SIMPLE),
    "HAS PROPERTIES": (_VALUES, _LEAVES),
    "INFERRED FROM": (_VALUES, _LEAVES),
}
"""PS3.3 Table A.35.2-2."""

_WORDS: Final = _SIMPLE - {"NUM"}

_TEXT: Final[Relationships] = {
    "CONTAINS": (frozenset({"CONTAINER"}), _WORDS | _OBJECTS | {"CONTAINER"}),
    "HAS OBS CONTEXT": (frozenset({"CONTAINER"}), _WORDS | {"COMPOSITE"}),
    "HAS ACQ CONTEXT": (frozenset({"CONTAINER"}) | _OBJECTS, _WORDS),
    "HAS CONCEPT MOD": (_WORDS | _OBJECTS | {"CONTAINER"}, frozenset({"TEXT", "CODE"})),
    "HAS PROPERTIES": (frozenset({"TEXT"}), _WORDS | _OBJECTS),
    "INFERRED FROM": (frozenset({"TEXT"}), _WORDS | _OBJECTS),
}
"""PS3.3 Table A.35.1-2."""

RELATIONSHIPS: Final[dict[str, Relationships]] = {
    SR_CLASS: _COMPREHENSIVE,
    ENHANCED_CLASS: _ENHANCED,
    TEXT_CLASS: _TEXT,
}

ROOT_CHILDREN: Final = {
    "Language (TID 1204)": ("121049", "DCM"),
    "Observer Type (TID 1002)": ("121005", "DCM"),
    "Device Observer UID (TID 1004)": ("121012", "DCM"),
    "Procedure reported": ("121058", "DCM"),
    "Finding as text": ("121071", "DCM"),
    "Comment with the restriction of use": ("121106", "DCM"),
    "Imaging Measurements": ("126010", "DCM"),
}

GROUP_CHILDREN: Final = {
    "Tracking Identifier": ("112039", "DCM"),
    "Tracking Unique Identifier": ("112040", "DCM"),
    "Algorithm Name (TID 4019)": ("111001", "DCM"),
    "Algorithm Version (TID 4019)": ("111003", "DCM"),
}

VALUE_ELEMENT: Final = {
    "TEXT": "TextValue",
    "CODE": "ConceptCodeSequence",
    "NUM": "MeasuredValueSequence",
    "UIDREF": "UID",
    "IMAGE": "ReferencedSOPSequence",
}
