"""What a pipeline returns, as plain data: the language between inference and results.

Nothing here knows DICOM encoding or torch; arrays are NumPy arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from dicom_node.model.codes import Code


class Side(StrEnum):
    """The side of the body; UNKNOWN is an answer, never a guess; NONE is for unpaired parts."""

    RIGHT = "R"
    LEFT = "L"
    UNKNOWN = "U"
    NONE = "N"


@dataclass(frozen=True, slots=True)
class ImageReference:
    """One source image: `frame` counts from 1 in a multi-frame instance, None otherwise."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    frame: int | None = None

    @property
    def key(self) -> str:
        """Names its picture: the SOP Instance UID, with "#frame" for one of several frames."""
        frame = "" if self.frame is None else f"#{self.frame}"
        return f"{self.sop_instance_uid}{frame}"


@dataclass(frozen=True, slots=True)
class Subject:
    """What a finding is about: one joint, one vertebra, one image.

    Attributes:
        name: What a person calls it, unique in a job ("right knee", "L2").
        anatomy: The body part's code.
        side: Side of the body.
        images: The source images that show it, in the order used.
        box: (left, top, width, height) in pixels of the first image; None: the whole image.
        side_source: Where the side came from ("Laterality (0020,0060)").
    """

    name: str
    anatomy: Code
    side: Side
    images: tuple[ImageReference, ...]
    box: tuple[int, int, int, int] | None = None
    side_source: str = ""

    def corners(self, columns: int, rows: int) -> tuple[int, int, int, int] | None:
        """(Left, top, right, bottom) of the box's part in an image of this size, edges of pixels.

        A joint at the film's edge has a box beyond it, and no object may point there (PS3.3
        C.10.5: pixels are told from 0\\0 to Columns\\Rows). None: there is no box.
        """
        if self.box is None:
            return None
        left, top, width, height = self.box
        across = (min(max(x, 0), columns) for x in (left, left + width))
        down = (min(max(y, 0), rows) for y in (top, top + height))
        (left, right), (top, bottom) = across, down
        return left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Label:
    """One class of a classification; `detail` holds further coded facts (maker, model)."""

    code: Code
    text: str
    detail: tuple[tuple[Code, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Classification:
    """A choice among labels.

    Attributes:
        question: The concept asked about, for example the Kellgren-Lawrence grade.
        labels: The possible answers, in the network's output order.
        probabilities: Calibrated probability of each label; sums to 1.
        predicted: Index of the answer.
        prediction_set: Indices of the conformal prediction set, most probable first.
        coverage: The coverage that the set was made for, for example 0.9; None: no set.
        rule: The stated rule that the answer follows from ("BMD below 80 mg/cm3: ..."); then
            `probabilities` are 0 and 1 and no probabilities. "": the network's own answer.
        calibrated: False: the probabilities are the network's, as they are.
    """

    subject: Subject
    question: Code
    labels: tuple[Label, ...]
    probabilities: tuple[float, ...]
    predicted: int
    prediction_set: tuple[int, ...] = ()
    coverage: float | None = None
    rule: str = ""
    calibrated: bool = True


@dataclass(frozen=True, slots=True)
class Measurement:
    """A number with its unit.

    Attributes:
        unit: UCUM code.
        uncertainty: One standard deviation in the same unit, if known.
        normal_range: (low, high) in the same unit, with either end open.
        derivation: How it came about (for example a mean), if coded.
        method: One sentence for the reader ("mean of the CNN over 5 axial slices").
    """

    subject: Subject
    concept: Code
    value: float
    unit: Code
    uncertainty: float | None = None
    normal_range: tuple[float | None, float | None] | None = None
    derivation: Code | None = None
    method: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Where something is: a boolean mask on the source grid, [H, W] or [slices, H, W].

    A volume's slices stand in the order of `subject.images`.

    Attributes:
        category: What kind of thing it is; None: an anatomical structure.
        marked: (left, top, width, height) in pixels and the image on which a detector's box is
            drawn and told in the report; None: the mask is an outline, not a box.
    """

    subject: Subject
    label: Code
    mask: npt.NDArray[np.bool_]
    category: Code | None = None
    marked: tuple[tuple[float, float, float, float], ImageReference] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Saliency:
    """Why: a map in 0..1 on the source image's grid, [H, W], float32.

    Attributes:
        target: Text of the label or number that the map explains.
        method: For example "Grad-CAM".
        layer: Name of the network's layer that it was taken from.
        image: The image on whose grid it lies.
    """

    subject: Subject
    image: ImageReference
    map: npt.NDArray[np.float32]
    target: str
    method: str
    layer: str


@dataclass(frozen=True, slots=True)
class NotEvaluated:
    """The pipeline looked and declined: a result with a reason, not an error.

    `text` is the sentence the radiologist reads ("the image is not an AP view of the hip").
    """

    subject: Subject
    reason: Code
    text: str


Finding = Classification | Measurement | Region | Saliency | NotEvaluated


@dataclass(frozen=True, slots=True)
class Algorithm:
    """Which model made the findings; the same names go everywhere (IHE AIR Table 6.5.3.1-1).

    Attributes:
        name: Pipeline name, for example "knee_kl_ensemble".
        title: What people call it ("Knee Kellgren-Lawrence grade").
        version: Version of the pipeline.
        weights_sha256: Hash of the weights; a retrained model has another.
        device_uid: UID that changes with every retraining.
        manufacturer: Who made it.
        demonstration: True when the weights were trained for demonstration only.
        family: SNOMED/DCM code of the algorithm family (deep learning, …).
    """

    name: str
    title: str
    version: str
    weights_sha256: str
    device_uid: str
    manufacturer: str
    demonstration: bool
    family: Code


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything one job found.

    Attributes:
        statement: What a radiologist would dictate, in one or a few sentences.
        images: Every image that was analysed (for the SR's references).
        procedure: The imaging procedure, coded (Procedure Reported, TID 1500).
        started: When the analysis began (UTC).
        edition: Tells what was made of the same images by the same model for another purpose
            ("failed": that nothing was found); its objects have UIDs of their own.
    """

    algorithm: Algorithm
    procedure: Code
    statement: str
    images: tuple[ImageReference, ...]
    items: tuple[Finding, ...]
    started: datetime
    notes: tuple[str, ...] = field(default=())
    edition: str = ""

    @property
    def evaluated(self) -> bool:
        """True when at least one subject got a classification or a measurement."""
        return any(isinstance(item, Classification | Measurement) for item in self.items)
