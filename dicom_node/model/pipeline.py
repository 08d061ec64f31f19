"""`configs/dicom.yaml`: what makes a MONAI bundle a pipeline of this node."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from dicom_node.model.codes import Code
from dicom_node.model.conditions import Conditions, Strict


class CodeSpec(Strict):
    """A coded concept as written in YAML: [value, scheme, meaning] by name."""

    value: str
    scheme: str
    meaning: str

    def code(self) -> Code:
        return Code(self.value, self.scheme, self.meaning)


class InputKind(StrEnum):
    """How the reader presents the selected instances to the bundle.

    RADIOGRAPH: each image alone, [1, H, W] float32 in 0..1, bright bone, Modality and VOI LUT
    applied. VOLUME: each series as one [1, H, W, D] volume in Hounsfield units with an affine.
    """

    RADIOGRAPH = "radiograph"
    VOLUME = "volume"


class InputSelector(Strict):
    """Which instances of a routed study the pipeline takes.

    Attributes:
        when: Must hold for each instance taken.
        min_instances: Fewer than this in a series: not evaluated (volumes).
        channels: The grey image is given to the bundle so many times, as channels.
        compact: A volume is given to the bundle as 16-bit integers where its Hounsfield units are
            whole numbers: half the memory. All parts of the bundle must take it so.
    """

    kind: InputKind
    when: Conditions = Conditions()
    min_instances: int = 1
    channels: int = Field(default=1, ge=1, le=16)
    compact: bool = False


class LabelSpec(Strict):
    """One class: its code, the text a radiologist reads, further coded facts."""

    code: CodeSpec
    text: str
    detail: list[tuple[CodeSpec, str]] = Field(default_factory=list)


class ClassificationOutput(Strict):
    """`key` holds calibrated probabilities, [classes], in the order of `labels`.

    `set_key`, if given, holds the indices of the prediction set made for `coverage`.

    Attributes:
        activation: What makes probabilities of `key`, where postprocessing does not: then `key`
            is commonly `network_output`, the network's output as it is.
        temperature: `key` is divided by it before the activation (Guo et al., ICML 2017).
        calibrated: False: the report does not call the probabilities calibrated.
    """

    type: Literal["classification"]
    key: str
    question: CodeSpec
    labels: list[LabelSpec]
    set_key: str | None = None
    coverage: float | None = None
    activation: Literal["softmax", "sigmoid"] | None = None
    temperature: float = Field(default=1.0, gt=0)
    calibrated: bool = True


class MeasurementOutput(Strict):
    """`key` holds a number; `uncertainty_key` one standard deviation in the same unit.

    A number outside of `plausible_range` is none that nature makes: the job fails, and says so.
    """

    type: Literal["measurement"]
    key: str
    concept: CodeSpec
    unit: CodeSpec
    uncertainty_key: str | None = None
    normal_range: tuple[float | None, float | None] | None = None
    plausible_range: tuple[float | None, float | None] | None = None
    derivation: CodeSpec | None = None
    method: str = ""


class RegionOutput(Strict):
    """`key` holds a boolean mask on the source grid."""

    type: Literal["region"]
    key: str
    label: CodeSpec


class SegmentSpec(Strict):
    """One class of a segmentation or a detector.

    Attributes:
        value: Its number in the label map, or its channel; of a detector, its label.
        name: What a person calls it; the subject of its findings.
        label: What it is (Segmented Property Type, PS3.3 C.8.20.4).
        category: What kind of thing that is (Segmented Property Category).
    """

    value: int = Field(ge=0)
    name: str = Field(min_length=1, max_length=64)
    label: CodeSpec
    category: CodeSpec = CodeSpec(value="91723000", scheme="SCT", meaning="Anatomical Structure")


class SegmentationOutput(Strict):
    """`key` holds a label map, [1, ...], or a channel for each class, [classes, ...].

    On the grid of the source, as MONAI's `Invertd` leaves it. Each segment becomes a subject with
    its region and, in a volume, its volume in mL.
    """

    type: Literal["segmentation"]
    key: str = "pred"
    segments: list[SegmentSpec] = Field(min_length=1)


class DetectionOutput(Strict):
    """`key` holds boxes, [n, 4] or [n, 6]; each that is sure enough becomes a subject.

    Attributes:
        scores_key: Holds the score of each box, 0..1.
        labels_key: Holds the label of each box.
        mode: How a box is written, by MONAI's names (`monai.data.box_utils`).
        frame: In what: pixels of the image that the network saw, or mm.
        threshold: Boxes of a lower score are left out.
        at_most: No more than so many boxes, the surest first.
    """

    type: Literal["detection"]
    key: str = "box"
    scores_key: str = "label_scores"
    labels_key: str = "label"
    findings: list[SegmentSpec] = Field(min_length=1)
    mode: Literal["xyxy", "xyzxyz", "ccwh", "cccwhd", "xywh", "xyzwhd", "xxyy", "xxyyzz"]
    frame: Literal["image", "ras", "lps"] = "image"
    threshold: float = Field(default=0.5, ge=0, le=1)
    at_most: int = Field(default=20, ge=1)


Output = Annotated[
    ClassificationOutput | MeasurementOutput | RegionOutput | SegmentationOutput | DetectionOutput,
    Field(discriminator="type"),
]


class SaliencySpec(Strict):
    """Grad-CAM of one output on a named layer of the network.

    Attributes:
        key: Key of the classification or measurement output that it explains.
        layer: Name as in `network.named_modules()`.
    """

    key: str
    layer: str
    method: Literal["gradcam", "gradcam++"] = "gradcam"


class SummaryOutput(Strict):
    """A value over all subjects of a study (the mean BMD of the patient).

    Attributes:
        over: Key of the measurement output that is summarised.
        at_least: Fewer evaluated subjects than this: no summary.
    """

    name: str
    over: str
    reduce: Literal["mean"] = "mean"
    at_least: int = 1
    concept: CodeSpec
    unit: CodeSpec
    derivation: CodeSpec
    thresholds: Thresholds | None = None


class Thresholds(Strict):
    """A class by a stated threshold: the first whose `below` exceeds the value, else `last`."""

    question: CodeSpec
    source: str
    below: list[tuple[float, LabelSpec]]
    last: LabelSpec


class ResultObject(StrEnum):
    """What a pipeline may send beside the SR and the picture, in the order of their series.

    SEGMENTATION: its regions. PRESENTATION_STATE: boxes, outlines and words over the source
    image, which a viewer can switch off. PARAMETRIC_MAP: the saliency as numbers. KEY_OBJECTS:
    the images that matter. PDF: one page for viewers that show neither SR nor SC.
    """

    SEGMENTATION = "segmentation"
    PRESENTATION_STATE = "presentation_state"
    PARAMETRIC_MAP = "parametric_map"
    KEY_OBJECTS = "key_objects"
    PDF = "pdf"


class PipelineSpec(Strict):
    """The whole of `configs/dicom.yaml`.

    Attributes:
        title: What people call the pipeline.
        procedure: Imaging procedure, for Procedure Reported (121058, DCM).
        anatomy: Body part of a subject whose locator names none.
        statement: One sentence per subject; fields in braces: {subject}, {label},
            {probability}, {set}, and the key of each measurement ({bmd}, {bmd_sd}).
        series_number: Series Number of the SR; the SC has the next, then those of `objects` in
            the order of `ResultObject`, each its own, used or not.
        objects: What else to send beside SR and SC.
        time_limit_seconds: A job may take so long, in place of the node's own limit.
    """

    title: str
    manufacturer: str = "dicom-node"
    procedure: CodeSpec
    anatomy: CodeSpec
    input: InputSelector
    outputs: list[Output]
    summary: SummaryOutput | None = None
    saliency: SaliencySpec | None = None
    statement: str
    series_number: int = Field(ge=1, le=99999)
    objects: list[ResultObject] = Field(default_factory=list)
    time_limit_seconds: float | None = Field(default=None, gt=0)


SummaryOutput.model_rebuild()
PipelineSpec.model_rebuild()
