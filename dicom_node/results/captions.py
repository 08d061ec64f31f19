"""The words beside a picture: what was found, by what, and what it may not be used for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dicom_node.model.findings import (
    Algorithm,
    Classification,
    Finding,
    Findings,
    Measurement,
    NotEvaluated,
    Saliency,
    Side,
    Subject,
)
from dicom_node.model.wording import percent, unit_sign, with_uncertainty
from dicom_node.results.drawing import DIM, TEXT, WARNING, Colour
from dicom_node.results.groups import by_subject, is_uncertain
from dicom_node.results.origin import DEMONSTRATION, RESEARCH_ONLY

_SHOWN_LABELS = 6


@dataclass(frozen=True, slots=True)
class Words:
    """A paragraph. `size` is relative to the base font."""

    text: str
    colour: Colour = TEXT
    size: float = 1.0
    bold: bool = False
    swatch: Colour | None = None
    boxed: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """A labelled bar for a probability; the label takes `label_share` of the width."""

    label: str
    value: float
    colour: Colour
    strong: bool = False
    label_share: float = 0.4


@dataclass(frozen=True, slots=True)
class ColourBar:
    """The key to the heat map."""

    caption: str


@dataclass(frozen=True, slots=True)
class Space:
    """Empty height, relative to the base font."""

    size: float = 0.7


Block = Words | Bar | ColourBar | Space


def side_marker(subject: Subject) -> str:
    """R or L; "?" when the side is not known; "" for unpaired parts."""
    marks = {Side.RIGHT: "R", Side.LEFT: "L", Side.UNKNOWN: "side ?"}
    return marks.get(subject.side, "")


def panel_blocks(
    findings: Findings,
    items: Sequence[Finding],
    colours: Mapping[Subject, Colour],
    notes: Sequence[str],
) -> list[Block]:
    """Everything that stands in the margin, top to bottom.

    Args:
        items: The findings that this picture shows.
        colours: Colour of each subject's outline.
        notes: How the picture was made, in small print.
    """
    algorithm = findings.algorithm
    blocks: list[Block] = [
        Words(algorithm.title, size=1.45, bold=True),
        Space(0.3),
        *banners(algorithm),
    ]
    for subject, found in by_subject(items):
        blocks += [Space(), *_subject(subject, found, colours.get(subject))]
    maps = [item for item in items if isinstance(item, Saliency)]
    if maps:
        targets = ", ".join(dict.fromkeys(item.target for item in maps))
        blocks += [Space(1.0), ColourBar(f"{maps[0].method}: what spoke for {targets}")]
    blocks += [Space(1.0), *_small_print(algorithm, [*findings.notes, *notes])]
    return blocks


def banners(algorithm: Algorithm) -> Iterator[Block]:
    """What every picture must say of itself."""
    yield Words(RESEARCH_ONLY, WARNING, bold=True)
    if algorithm.demonstration:
        yield Space(0.3)
        yield Words(DEMONSTRATION, WARNING, bold=True, boxed=True)


def headline(items: Sequence[Finding]) -> str:
    """One subject's main finding in a few words."""
    for item in items:
        if isinstance(item, NotEvaluated):
            return "not evaluated"
    for item in items:
        if isinstance(item, Classification):
            sure = f" ({percent(item.probabilities[item.predicted])})" if is_uncertain(item) else ""
            return f"{item.labels[item.predicted].text}{sure}"
    return "; ".join(_number(item) for item in items if isinstance(item, Measurement))


def _subject(subject: Subject, items: Sequence[Finding], colour: Colour | None) -> Iterator[Block]:
    said = {Side.RIGHT: "right", Side.LEFT: "left", Side.UNKNOWN: "side unknown"}
    is_said = said.get(subject.side, "") in subject.name.lower()
    mark = "" if is_said else side_marker(subject)
    name = f"{subject.name} ({mark})" if mark else subject.name
    yield Words(name, size=1.2, bold=True, swatch=colour)
    if subject.side is Side.UNKNOWN and subject.side_source:
        # something contradicts something: the film may be marked or filed wrongly
        yield Words(f"Side unknown: {subject.side_source}", WARNING, size=0.85)
    for item in items:
        if isinstance(item, Classification):
            yield from _classification(item, colour or TEXT)
        elif isinstance(item, Measurement):
            yield from _measurement(item)
        elif isinstance(item, NotEvaluated):
            yield Words("NOT EVALUATED", WARNING, size=1.15, bold=True)
            yield Words(item.text)
    if subject.side is Side.UNKNOWN and not (is_said or subject.side_source):
        yield Words("Side of the body unknown", DIM, size=0.8)


def _classification(item: Classification, colour: Colour) -> Iterator[Block]:
    label = item.labels[item.predicted]
    yield Words(item.question.meaning, DIM, size=0.85)
    if not is_uncertain(item):
        yield Words(label.text, size=1.1, bold=True)
        return
    sure = percent(item.probabilities[item.predicted])
    yield Words(f"{label.text} ({sure})", size=1.1, bold=True)
    for code, value in label.detail:
        yield Words(f"{code.meaning}: {value}", size=0.9)
    shown: Sequence[int] = range(len(item.labels))
    if len(item.labels) > _SHOWN_LABELS:
        shown = sorted(shown, key=lambda i: -item.probabilities[i])[:_SHOWN_LABELS]
    longest = max(len(item.labels[index].text) for index in shown)
    yield Space(0.2)
    for index in shown:
        yield Bar(
            item.labels[index].text,
            item.probabilities[index],
            colour,
            index == item.predicted,
            min(0.58, max(0.2, 0.027 * longest)),
        )
    if item.prediction_set and item.coverage is not None:
        names = ", ".join(item.labels[index].text for index in item.prediction_set)
        yield Words(f"{item.coverage:.0%} prediction set: {names}", size=0.9)


def _measurement(item: Measurement) -> Iterator[Block]:
    yield Words(item.concept.meaning, DIM, size=0.85)
    yield Words(_number(item), size=1.1, bold=True)
    limits = _range(item)
    if limits:
        yield Words(limits, DIM, size=0.85)


def _number(item: Measurement) -> str:
    unit = unit_sign(item.unit.value)
    if item.uncertainty is None:
        return f"{_short(item.value)} {unit}".rstrip()
    return f"{with_uncertainty(item.value, item.uncertainty)} {unit}".rstrip()


def _range(item: Measurement) -> str:
    low, high = item.normal_range or (None, None)
    if low is not None and high is not None:
        return f"normal range {_short(low)} to {_short(high)}"
    if low is not None:
        return f"normal range {_short(low)} or more"
    return "" if high is None else f"normal range up to {_short(high)}"


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _small_print(algorithm: Algorithm, notes: Sequence[str]) -> Iterator[Block]:
    yield Words(
        f"{algorithm.name} {algorithm.version}, weights {algorithm.weights_sha256[:8]}, "
        f"{algorithm.manufacturer}",
        DIM,
        size=0.8,
    )
    for note in notes:
        yield Words(note, DIM, size=0.8)
