"""Measurement groups: what was found about each subject (TID 1501, PS3.16).

One group per subject and question: the answer, the calibrated probability of each label, the
prediction set and its coverage, the measurements, or why it was not evaluated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    CodeContentItem,
    CodedConcept,
    ContentItem,
    ContentSequence,
    FindingSite,
    GraphicTypeValues,
    ImageRegion,
    MeasurementsAndQualitativeEvaluations,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
)
from highdicom.sr import Measurement as NumericItem
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as PydicomCode

from dicom_node.model.findings import (
    Algorithm,
    Classification,
    Finding,
    ImageReference,
    Measurement,
    NotEvaluated,
    Region,
    Side,
    Subject,
)
from dicom_node.model.own_codes import (
    BELONGS_TO,
    CALIBRATED,
    COVERAGE,
    PREDICTION_SET,
    REASON,
    SIDE_SOURCE,
)
from dicom_node.results.coded import PERCENT, concept
from dicom_node.results.origin import Origin

_LATERALITY: Final = {Side.RIGHT: codes.SCT.Right, Side.LEFT: codes.SCT.Left}
_UNCERTAINTY: Final = PydicomCode("371884006", "SCT", "+/-, range of measurement uncertainty")
_EQUIVALENT_VALUE: Final = PydicomCode("121051", "DCM", "Equivalent Meaning of Value")

_MOD: Final = RelationshipTypeValues.HAS_CONCEPT_MOD
_PROPERTY: Final = RelationshipTypeValues.HAS_PROPERTIES


Group = MeasurementsAndQualitativeEvaluations | PlanarROIMeasurementsAndQualitativeEvaluations


def measurement_groups(origin: Origin) -> list[Group]:
    """One group per subject, in the order in which the findings name them.

    A subject with several classifications has a group for each, with the same Tracking Unique
    Identifier, so that every probability and prediction set stands beside its own question.
    """
    groups = []
    for index, (subject, items) in enumerate(by_subject(origin.findings.items)):
        tracking_uid = tracking_uid_of(origin, index, subject)
        for part in _one_question_each(items):
            groups.append(_group(origin, subject, part, tracking_uid))
    return groups


def tracking_uid_of(origin: Origin, index: int, subject: Subject) -> str:
    """Tracking UID of the subject that `by_subject` has at `index`; the same in all objects."""
    return origin.uid("tracking", str(index), subject.name)


def by_subject(items: Iterable[Finding]) -> list[tuple[Subject, list[Finding]]]:
    """Findings by subject, both in their order."""
    found: dict[Subject, list[Finding]] = {}
    for item in items:
        found.setdefault(item.subject, []).append(item)
    return list(found.items())


def is_uncertain(item: Classification) -> bool:
    """False for a class that follows from a number by a stated threshold: no probability."""
    by_threshold = max(item.probabilities) >= 1.0 and not item.prediction_set
    return not (item.rule or by_threshold)


def algorithm_identification(algorithm: Algorithm) -> AlgorithmIdentification:
    """TID 4019, with the names that the Contributing Equipment has."""
    return AlgorithmIdentification(
        algorithm.name,
        algorithm.version,
        parameters=[f"weights SHA-256 {algorithm.weights_sha256}"],
        family=concept(algorithm.family),
        manufacturer=algorithm.manufacturer,
    )


def _one_question_each(items: Sequence[Finding]) -> list[list[Finding]]:
    questions = [item for item in items if isinstance(item, Classification)]
    others = [item for item in items if isinstance(item, Measurement | NotEvaluated | Region)]
    first: list[Finding] = [*others, *questions[:1]]
    rest: list[list[Finding]] = [[question] for question in questions[1:]]
    return [first, *rest] if first else rest


def _group(origin: Origin, subject: Subject, items: Sequence[Finding], tracking_uid: str) -> Group:
    measurements: list[NumericItem] = []
    evaluations: list[QualitativeEvaluation] = []
    texts: list[TextContentItem] = []
    finding: PydicomCode | CodedConcept | None = None
    for item in items:
        if isinstance(item, Classification):
            evaluations += _answer(item)
            if is_uncertain(item):
                measurements += _probabilities(item)
        elif isinstance(item, Measurement):
            measurements += _measurement(item)
        elif isinstance(item, NotEvaluated):
            finding = codes.SCT.NotEvaluated
            evaluations.append(QualitativeEvaluation(concept(REASON), concept(item.reason)))
            texts.append(_text(codes.DCM.Comment, item.text))
        elif isinstance(item, Region) and finding is None:
            finding = concept(item.label)  # the masks themselves are not the SR's to carry
    if subject.side_source:
        texts.append(_text(concept(SIDE_SOURCE), subject.side_source))
    about: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(uid=tracking_uid, identifier=subject.name),
        "finding_type": finding,
        "algorithm_id": algorithm_identification(origin.findings.algorithm),
        "finding_sites": [_site(subject)],
        "measurements": measurements or None,
        "qualitative_evaluations": evaluations or None,
    }
    marked = next((item.marked for item in items if isinstance(item, Region)), None)
    group: Group
    if marked is None:
        images = [_source(origin, image) for image in _images(subject)]
        group = MeasurementsAndQualitativeEvaluations(**about, source_images=images)
    else:
        region = _image_region(origin, *marked)
        group = PlanarROIMeasurementsAndQualitativeEvaluations(**about, referenced_region=region)
    group[0].ContentSequence.extend(texts)
    return group


def _image_region(
    origin: Origin, box: tuple[float, float, float, float], image: ImageReference
) -> ImageRegion:
    """Where a detector's box lies: a closed polyline on its image (TID 1410, PS3.3 C.18.6)."""
    left, top, width, height = box
    right, bottom = left + width, top + height
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    header = origin.sources.by_uid(image.sop_instance_uid)
    source = SourceImageForRegion(
        str(header.SOPClassUID),
        image.sop_instance_uid,
        referenced_frame_numbers=None if image.frame is None else [image.frame],
    )
    return ImageRegion(GraphicTypeValues.POLYLINE, np.array(corners, np.float64), source)


def _site(subject: Subject) -> FindingSite:
    return FindingSite(concept(subject.anatomy), laterality=_LATERALITY.get(subject.side))


def _images(subject: Subject) -> list[tuple[str, tuple[int, ...]]]:
    """(SOP Instance UID, frames) of the subject's images, each instance once."""
    frames: dict[str, list[int]] = {}
    for image in subject.images:
        known = frames.setdefault(image.sop_instance_uid, [])
        if image.frame is not None and image.frame not in known:
            known.append(image.frame)
    return [(uid, tuple(numbers)) for uid, numbers in frames.items()]


def _source(origin: Origin, image: tuple[str, tuple[int, ...]]) -> SourceImageForMeasurementGroup:
    uid, frames = image
    header = origin.sources.by_uid(uid)
    return SourceImageForMeasurementGroup(
        str(header.SOPClassUID), uid, referenced_frame_numbers=list(frames) or None
    )


def _answer(item: Classification) -> list[QualitativeEvaluation]:
    label = item.labels[item.predicted]
    answer = QualitativeEvaluation(concept(item.question), concept(label.code))
    extra: list[ContentItem] = []
    if label.text and label.text != label.code.meaning:
        extra.append(_text(_EQUIVALENT_VALUE, label.text, _MOD))
    extra += [_text(concept(code), value, _PROPERTY) for code, value in label.detail]
    if item.rule:
        extra.append(_text(codes.DCM.Comment, item.rule, _PROPERTY))
    _append(answer[0], extra)
    members = [
        QualitativeEvaluation(concept(PREDICTION_SET), concept(item.labels[index].code))
        for index in item.prediction_set
    ]
    return [answer, *members]


def _probabilities(item: Classification) -> list[NumericItem]:
    """Certainty of the answer, probability of each label, coverage of the set; in percent."""
    numbers = [_percent(codes.DCM.CertaintyOfFinding, item, item.predicted)]
    for index, label in enumerate(item.labels):
        number = _percent(codes.DCM.Probability, item, index)
        which = CodeContentItem(concept(item.question), concept(label.code), _MOD)
        children = list(number[0].get("ContentSequence") or [])
        number[0].ContentSequence = ContentSequence([which, *children])
        numbers.append(number)
    if item.coverage is not None:
        numbers.append(NumericItem(concept(COVERAGE), _round(100 * item.coverage), PERCENT))
    return numbers


def _percent(name: PydicomCode, item: Classification, index: int) -> NumericItem:
    method = concept(CALIBRATED) if item.calibrated else None
    return NumericItem(name, _round(100 * item.probabilities[index]), PERCENT, method=method)


def _measurement(item: Measurement) -> list[NumericItem]:
    """The value, then its normal range and its standard deviation as numbers of their own.

    TID 310 has the latter below the value; PixelMed's validator, which IHE uses, refuses every
    number there (its row 9 of TID 300 takes any of them for another measurement, "INFERRED
    FROM"). Beside the value, each names the measurement that it belongs to.
    """
    number = NumericItem(
        concept(item.concept),
        _round(item.value),
        concept(item.unit),
        derivation=None if item.derivation is None else concept(item.derivation),
    )
    if item.method:
        _append(number[0], [_text(codes.DCM.Comment, item.method, _PROPERTY)])
    low, high = item.normal_range or (None, None)
    about = [
        _about(item, name, limit)
        for name, limit in (
            (codes.SCT.NormalRangeLowerLimit, low),
            (codes.SCT.NormalRangeUpperLimit, high),
        )
        if limit is not None
    ]
    if item.uncertainty is not None:
        about.append(_about(item, _UNCERTAINTY, item.uncertainty, codes.SCT.StandardDeviation))
    return [number, *about]


def _about(
    item: Measurement, name: PydicomCode, value: float, derivation: PydicomCode | None = None
) -> NumericItem:
    number = NumericItem(name, _round(value), concept(item.unit), derivation=derivation)
    whose = CodeContentItem(concept(BELONGS_TO), concept(item.concept), _MOD)
    _append(number[0], [whose])
    return number


def _text(
    name: PydicomCode | CodedConcept,
    value: str,
    relationship: RelationshipTypeValues = RelationshipTypeValues.CONTAINS,
) -> TextContentItem:
    return TextContentItem(name, value, relationship_type=relationship)


def _append(item: Dataset, children: Sequence[ContentItem]) -> None:
    if not children:
        return
    if "ContentSequence" not in item:
        item.ContentSequence = ContentSequence()
    item.ContentSequence.extend(children)


def _round(value: float) -> float:
    """Six significant digits: more would pretend to a precision that no model has."""
    return float(f"{float(value):.6g}")
