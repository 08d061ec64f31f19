"""A CT series in one picture: a sagittal overview with the levels, and a slice of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from dicom_node.model.findings import Finding, Findings, Region, Saliency, Subject
from dicom_node.results.captions import headline, panel_blocks
from dicom_node.results.drawing import (
    BACKGROUND,
    DIM,
    SUBJECT_COLOURS,
    TEXT,
    TRACK,
    Colour,
    Rgb,
    blend_saliency,
    font,
    grey_to_rgb,
    outline_mask,
    resize,
    wrap,
)
from dicom_node.results.groups import by_subject
from dicom_node.results.margin import set_panel
from dicom_node.results.overlay import Composition
from dicom_node.results.volume import Stack

_HEIGHT = 1500
_SLICE_ONLY = 1000
_BASE = 32
_WIDEST = 1000
_CROP_MM = 150.0
_OVERVIEW_MM = 240.0


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One tile of a montage.

    Attributes:
        image: [H, W] uint8.
        regions: Masks on the image's grid with their colours.
        saliency: [H, W] in 0..1 on the image's grid.
        caption: Lines under the tile; the first is the strong one.
        colour: Of the caption's first line.
        size_mm: (height, width) of the image.
        sides: What stands left and right of the image ("R", "L").
    """

    image: npt.NDArray[np.uint8]
    regions: tuple[tuple[npt.NDArray[np.bool_], Colour], ...]
    caption: tuple[str, ...]
    colour: Colour
    size_mm: tuple[float, float]
    sides: tuple[str, str] = ("", "")
    saliency: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class _Level:
    name: str
    colour: Colour
    centre: float
    """Height in the overview, 0 (top) to 1."""


def compose_montage(findings: Findings, items: Sequence[Finding], stack: Stack) -> Composition:
    """Lay out one series' findings: overview, slices of each subject, words."""
    masks = _masks(items, stack)
    colours = {s: SUBJECT_COLOURS[i % len(SUBJECT_COLOURS)] for i, s in enumerate(masks)}
    notes = ["Cuts and slices are resampled; not for measuring"]
    least = _HEIGHT if stack.axial or masks else _SLICE_ONLY
    words = set_panel(panel_blocks(findings, items, colours, notes), 21 * _BASE, _BASE, least)
    parts: list[Image.Image] = []
    if stack.axial:
        overview, levels = _overview(stack, masks, colours)
        parts.append(_draw_overview(overview, levels, words.height))
    tiles = [
        _slice_of(stack, subject, found, masks[subject], colours[subject])
        for subject, found in by_subject(items)
        if subject in masks
    ]
    if not tiles and not stack.axial:
        tiles = [_middle(stack)]
    if tiles:
        parts.append(_grid(tiles, words.height))
    parts.append(words)
    canvas = Image.new("RGB", (sum(part.width for part in parts), words.height), BACKGROUND)
    x = 0
    for part in parts:
        canvas.paste(part, (x, 0))
        x += part.width
    return Composition(np.asarray(canvas), 0.0, notes[0])


@dataclass(frozen=True, slots=True, eq=False)
class _Mask:
    """A subject's regions in a stack.

    Attributes:
        planes: [H, W] by slice; none of them empty.
        centre: (slice, row, column), their centre of mass.
    """

    planes: Mapping[int, npt.NDArray[np.bool_]]
    centre: tuple[float, float, float]


def _masks(items: Sequence[Finding], stack: Stack) -> dict[Subject, _Mask]:
    """Each subject's regions together, for those that have any in the stack."""
    planes: dict[Subject, dict[int, npt.NDArray[np.bool_]]] = {}
    for item in items:
        if isinstance(item, Region):
            for index, plane in stack.planes(item).items():
                known = planes.setdefault(item.subject, {})
                known[index] = known[index] | plane if index in known else plane
    return {subject: _Mask(found, _centre(found)) for subject, found in planes.items()}


def _centre(planes: Mapping[int, npt.NDArray[np.bool_]]) -> tuple[float, float, float]:
    points = np.array(
        [
            (len(rows), index, rows.mean(), columns.mean())
            for index, (rows, columns) in ((i, np.nonzero(p)) for i, p in planes.items())
        ]
    )
    middle = np.average(points[:, 1:], axis=0, weights=points[:, 0])
    return float(middle[0]), float(middle[1]), float(middle[2])


def _overview(
    stack: Stack, masks: Mapping[Subject, _Mask], colours: Mapping[Subject, Colour]
) -> tuple[Panel, list[_Level]]:
    """The sagittal cut through the middle of the regions, head up, front on the left."""
    depth, high, wide = stack.pictures.shape
    middle = round(float(np.mean([m.centre[2] for m in masks.values()]))) if masks else wide // 2
    half = max(1, round(4 / stack.spacing[2]))
    part = slice(max(0, middle - half), middle + half + 1)
    row = float(np.mean([m.centre[1] for m in masks.values()])) if masks else high / 2
    near = _span(row, _OVERVIEW_MM if masks else math.inf, stack.spacing[1], high)
    cut = stack.pictures[:, near, part].astype(np.float32).mean(axis=2).round().astype(np.uint8)

    def turned(plane: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        upright = plane[::-1]
        return upright if stack.anterior_first else upright[:, ::-1]

    regions = []
    for subject, mask in masks.items():
        region = np.zeros(cut.shape, np.bool_)
        for index, plane in mask.planes.items():
            region[index] = plane[near, part].any(axis=1)
        regions.append((turned(region).astype(np.bool_), colours[subject]))
    levels = [
        _Level(subject.name, colours[subject], 1 - (mask.centre[0] + 0.5) / depth)
        for subject, mask in masks.items()
    ]
    size = (depth * stack.spacing[0], cut.shape[1] * stack.spacing[1])
    caption = ("Sagittal overview",)
    panel = Panel(turned(cut).astype(np.uint8), tuple(regions), caption, TEXT, size, ("A", "P"))
    return panel, levels


def _slice_of(
    stack: Stack,
    subject: Subject,
    items: Sequence[Finding],
    mask: _Mask,
    colour: Colour,
) -> Panel:
    """The subject's slice with the largest region, cropped around it."""
    areas = {index: int(plane.sum()) for index, plane in mask.planes.items()}
    saliencies = {stack.index(item.image): item.map for item in items if isinstance(item, Saliency)}
    explained = [index for index in areas if index in saliencies]
    index = max(explained or areas, key=lambda i: areas[i])
    rows, columns = np.nonzero(mask.planes[index])
    window = _window(stack, float(rows.mean()), float(columns.mean()))
    saliency = saliencies.get(index)
    numbers = headline([i for i in items if not isinstance(i, Region | Saliency)])
    return Panel(
        stack.pictures[index][window],
        ((mask.planes[index][window], colour),),
        (subject.name, *(line for line in numbers.split("; ") if line)),
        colour,
        _size(stack, window),
        ("R", "L") if stack.right_is_left else ("L", "R"),
        None if saliency is None else saliency[window].astype(np.float32),
    )


def _middle(stack: Stack) -> Panel:
    index = len(stack.pictures) // 2
    window = (slice(None), slice(None))
    return Panel(
        stack.pictures[index], (), ("One slice of the series",), TEXT, _size(stack, window)
    )


def _window(stack: Stack, row: float, column: float) -> tuple[slice, slice]:
    """Rows and columns of a square of `_CROP_MM` around a point, as far as there are any."""
    _, high, wide = stack.pictures.shape
    return (
        _span(row, _CROP_MM, stack.spacing[1], high),
        _span(column, _CROP_MM, stack.spacing[2], wide),
    )


def _span(centre: float, extent_mm: float, spacing: float, length: int) -> slice:
    """Indices of `extent_mm` around a point, kept within `length`."""
    wide = length if extent_mm >= length * spacing else max(8, round(extent_mm / spacing))
    start = min(max(0, round(centre - wide / 2)), max(0, length - wide))
    return slice(start, start + wide)


def _size(stack: Stack, window: tuple[slice, slice]) -> tuple[float, float]:
    rows, columns = stack.pictures[0][window].shape
    return rows * stack.spacing[1], columns * stack.spacing[2]


def _render(panel: Panel, size: tuple[int, int]) -> Rgb:
    shown = grey_to_rgb(resize(panel.image, size).astype(np.uint8))
    if panel.saliency is not None:
        shown = blend_saliency(shown, resize(panel.saliency, size).astype(np.float32))
    for mask, colour in panel.regions:
        shown = outline_mask(shown, resize(mask, size).astype(np.bool_), colour, 3)
    return shown


def _draw_overview(panel: Panel, levels: Sequence[_Level], room: int) -> Image.Image:
    head = 2 * _BASE
    height = room - head - _BASE
    width = round(height * panel.size_mm[1] / panel.size_mm[0])
    if width > _WIDEST:
        height, width = round(height * _WIDEST / width), _WIDEST
    names = round(max([font(_BASE).getlength(level.name) for level in levels] or [0])) + 3 * _BASE
    canvas = Image.new("RGB", (width + names + _BASE, room), BACKGROUND)
    canvas.paste(Image.fromarray(_render(panel, (width, height))), (_BASE, head))
    draw = ImageDraw.Draw(canvas)
    draw.text((_BASE, head // 2), panel.sides[0], DIM, font(_BASE, bold=True), anchor="lm")
    draw.text((_BASE + width // 2, head // 2), panel.caption[0], TEXT, font(_BASE), anchor="mm")
    draw.text((_BASE + width, head // 2), panel.sides[1], DIM, font(_BASE, bold=True), anchor="rm")
    ordered = sorted(levels, key=lambda item: item.centre)
    wanted = [head + round(level.centre * height) for level in ordered]
    places = apart(wanted, head, room - _BASE, round(_BASE * 1.2))
    for level, true, at in zip(ordered, wanted, places, strict=True):
        x = _BASE + width
        draw.line((x + 4, true, x + _BASE, at), fill=level.colour, width=3)
        draw.text((x + round(1.3 * _BASE), at), level.name, level.colour, font(_BASE), anchor="lm")
    return canvas


def apart(wanted: Sequence[int], top: int, foot: int, step: int) -> list[int]:
    """Where names stand that would lie on each other: near their places, none below the foot.

    The panel of words, which makes the canvas as high as it is, has more than a line for each.

    Args:
        wanted: Rows in rising order; the names stand `step` rows apart.
    """
    places: list[int] = []
    for true in wanted:
        places.append(max(true, (places[-1] if places else top) + step))
    for index in reversed(range(len(places))):
        places[index] = min(places[index], foot)
        foot = places[index] - step
    return places


def _grid(panels: Sequence[Panel], room: int) -> Image.Image:
    """Tiles in columns that fill the height."""
    rows = max(2, -(-len(panels) // 2)) if len(panels) > 1 else 1
    columns = -(-len(panels) // rows)
    small = round(_BASE * 0.9)
    lines = max(len(panel.caption) for panel in panels)
    below = round(small * 1.35 * (lines + 1)) + _BASE
    edge = min(640 if len(panels) > 1 else 820, (room - 2 * _BASE) // rows - below)
    gutter = round(_BASE * 1.4)
    cell = edge + 2 * gutter
    canvas = Image.new("RGB", (columns * cell, room), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for index, panel in enumerate(panels):
        x = (index // rows) * cell + gutter
        y = 2 * _BASE + (index % rows) * (edge + below)
        high, wide = panel.size_mm
        width, height = round(edge * min(1, wide / high)), round(edge * min(1, high / wide))
        left, top = x + (edge - width) // 2, y + (edge - height) // 2
        canvas.paste(Image.fromarray(_render(panel, (width, height))), (left, top))
        draw.rectangle(
            (left - 2, top - 2, left + width + 1, top + height + 1), outline=TRACK, width=2
        )
        middle = top + height // 2
        side = font(round(_BASE * 0.9), bold=True)
        draw.text((left - 8, middle), panel.sides[0], DIM, side, anchor="rm")
        draw.text((left + width + 8, middle), panel.sides[1], DIM, side, anchor="lm")
        at = y + edge + 10
        for number, text in enumerate(panel.caption):
            strong = number == 0
            for line in wrap(text, small, edge, bold=strong):
                colour = panel.colour if strong else TEXT
                draw.text((x, at), line, colour, font(small, bold=strong))
                at += round(small * 1.35)
    return canvas
