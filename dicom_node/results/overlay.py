"""One radiograph with its heat map and outlines; all words stand in margins beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from dicom_node.model.findings import Finding, Findings, Region, Saliency, Subject
from dicom_node.results.captions import Block, ColourBar, Words, panel_blocks, side_marker
from dicom_node.results.drawing import (
    BACKGROUND,
    SUBJECT_COLOURS,
    TEXT,
    Colour,
    Rgb,
    blend_saliency,
    font,
    grey_to_rgb,
    outline_box,
    outline_mask,
    resize,
)
from dicom_node.results.groups import by_subject
from dicom_node.results.margin import panel_height, set_panel

LONG_SIDE = 3000
"""A larger picture is reduced to this: more than a 5-megapixel display shows."""

_SHORT_SIDE = 1000
"""A smaller picture is enlarged by a whole number, so that the words beside it can be read."""


@dataclass(frozen=True, slots=True)
class Composition:
    """A finished picture, [H, W, 3].

    Attributes:
        scale: Pixels of the picture per pixel of the source.
        note: What was done to its size, for the reader; "" if nothing.
    """

    pixels: Rgb
    scale: float
    note: str


def compose_overlay(
    findings: Findings, items: Sequence[Finding], picture: npt.NDArray[np.uint8]
) -> Composition:
    """Lay one image's findings over it.

    Args:
        items: The findings about this image.
        picture: [H, W], as displayed.
    """
    colours = subject_colours(items)
    scale, note = _scale(picture.shape)
    height, width = (round(side * scale) for side in picture.shape[:2])
    shown = grey_to_rgb(resize(picture, (width, height)).astype(np.uint8))
    shown = _overlays(shown, items, colours)
    image = Image.fromarray(shown)
    beside = width < 1.3 * height
    base = round((height if beside else width * 0.72) / 46)
    for subject, colour in colours.items():
        corners = subject.corners(picture.shape[1], picture.shape[0])
        if corners is not None:
            outline_box(image, _shown(corners, scale, image.size), colour, max(2, base // 9))
    notes = [note] if note else []
    strip = _marker_strip(image.size[0], base, colours, scale)
    blocks = panel_blocks(findings, items, colours, notes)
    if beside:
        panel_width = round(21 * base)
        panel = set_panel(blocks, panel_width, base, height + strip.height)
        canvas = Image.new("RGB", (width + panel_width, panel.height), BACKGROUND)
        canvas.paste(panel, (width, 0))
    else:
        panel = _columns(blocks, width, base)
        canvas = Image.new("RGB", (width, strip.height + height + panel.height), BACKGROUND)
        canvas.paste(panel, (0, strip.height + height))
    canvas.paste(strip, (0, 0))
    canvas.paste(image, (0, strip.height))
    return Composition(np.asarray(canvas), scale, note)


def subject_colours(items: Sequence[Finding]) -> dict[Subject, Colour]:
    """A colour for each subject, in the order of the findings."""
    subjects = [subject for subject, _ in by_subject(items)]
    return {s: SUBJECT_COLOURS[i % len(SUBJECT_COLOURS)] for i, s in enumerate(subjects)}


def _scale(shape: tuple[int, ...]) -> tuple[float, str]:
    longest = max(shape[:2])
    if longest > LONG_SIDE:
        scale = LONG_SIDE / longest
        return scale, f"Reduced to {scale:.0%} of the original's resolution"
    if longest < _SHORT_SIDE:
        times = -(-_SHORT_SIDE // longest)
        return float(times), f"Enlarged {times} times"
    return 1.0, ""


def _overlays(shown: Rgb, items: Sequence[Finding], colours: Mapping[Subject, Colour]) -> Rgb:
    size = (shown.shape[1], shown.shape[0])
    maps = [resize(i.map.astype(np.float32), size) for i in items if isinstance(i, Saliency)]
    if maps:
        shown = blend_saliency(shown, np.maximum.reduce(maps).astype(np.float32))
    for item in items:
        if isinstance(item, Region) and item.mask.ndim == 2:
            mask = resize(item.mask, size).astype(np.bool_)
            shown = outline_mask(shown, mask, colours[item.subject], max(1, size[1] // 700))
    return shown


def _shown(
    corners: tuple[int, int, int, int], scale: float, size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Corners as pixels of the shown picture."""
    left, top, right, bottom = (round(edge * scale) for edge in corners)
    return left, top, min(size[0] - 1, right), min(size[1] - 1, bottom)


def _marker_strip(
    width: int, base: int, colours: Mapping[Subject, Colour], scale: float
) -> Image.Image:
    """A strip above the picture: side and name of each subject over its place."""
    strip = Image.new("RGB", (width, round(base * 2)), BACKGROUND)
    draw = ImageDraw.Draw(strip)
    letters = sum(len(side_marker(s)) + len(s.name) + 3 for s in colours)
    base = min(base, max(8, round(width / (0.65 * max(1, letters)))))
    middle = strip.height // 2
    used = 0
    for subject, colour in sorted(colours.items(), key=lambda pair: (pair[0].box or (0,))[0]):
        mark = side_marker(subject)
        centre = width / 2
        if subject.box is not None:
            centre = min(max((subject.box[0] + subject.box[2] / 2) * scale, 0), width)
        marker, name = font(round(base * 1.4), bold=True), font(base)
        gap = base // 2 if mark else 0
        needed = round(marker.getlength(mark) + gap + name.getlength(subject.name))
        x = max(used, min(round(centre - needed / 2), width - needed - base // 2))
        draw.text((x, middle), mark, colour, marker, anchor="lm")
        at = x + round(marker.getlength(mark)) + gap
        draw.text((at, middle), subject.name, TEXT, name, anchor="lm")
        used = x + needed + base
    return strip


def _columns(blocks: Sequence[Block], width: int, base: int) -> Image.Image:
    """Blocks under a wide picture, in as many columns as fit."""
    count = max(1, min(3, width // (20 * base)))
    column = width // count
    parts = _split(blocks, count, column, base)
    panels = [set_panel(part, column, base) for part in parts]
    canvas = Image.new("RGB", (width, max(p.height for p in panels)), BACKGROUND)
    for index, panel in enumerate(panels):
        canvas.paste(panel, (index * column, 0))
    return canvas


def _split(blocks: Sequence[Block], count: int, column: int, base: int) -> list[list[Block]]:
    """Deal blocks to columns in order, breaking where a subject begins."""
    heights = [panel_height([b], column, base) - 2 * base for b in blocks]
    target = sum(heights) / count
    parts: list[list[Block]] = [[]]
    filled = 0.0
    for block, high in zip(blocks, heights, strict=True):
        starts = (isinstance(block, Words) and block.swatch is not None) or isinstance(
            block, ColourBar
        )
        if starts and parts[-1] and filled + high / 2 >= target * 0.6 and len(parts) < count:
            parts.append([])
            filled = 0.0
        parts[-1].append(block)
        filled += high
    return parts
