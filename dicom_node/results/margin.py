"""Setting the words of a margin: the blocks of `captions` as pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from dicom_node.model.wording import percent
from dicom_node.results.captions import Bar, Block, ColourBar, Space, Words
from dicom_node.results.drawing import (
    BACKGROUND,
    DIM,
    SALIENT,
    TEXT,
    TRACK,
    WARNING,
    font,
    map_colours,
    wrap,
)


def set_panel(blocks: Sequence[Block], width: int, base: int, height: int = 0) -> Image.Image:
    """Set blocks in one column.

    Args:
        width: Of the panel in pixels, its own margins included.
        base: Base font size in pixels.
        height: At least this high.
    """
    pad = base
    inner = width - 2 * pad
    needed = sum(_height(block, inner, base) for block in blocks) + 2 * pad
    panel = Image.new("RGB", (width, max(height, needed)), BACKGROUND)
    pen = _Pen(ImageDraw.Draw(panel), panel, pad, inner, base)
    y = pad
    for block in blocks:
        pen.put(block, y)
        y += _height(block, inner, base)
    return panel


def panel_height(blocks: Sequence[Block], width: int, base: int) -> int:
    """The height that `set_panel` needs for them."""
    return sum(_height(block, width - 2 * base, base) for block in blocks) + 2 * base


def _line(size: int) -> int:
    return round(size * 1.3)


def _height(block: Block, width: int, base: int) -> int:
    if isinstance(block, Space):
        return round(block.size * base)
    if isinstance(block, Bar):
        return _line(base)
    if isinstance(block, ColourBar):
        caption = wrap(block.caption, round(base * 0.85), width)
        return round(base * 2.6) + len(caption) * _line(round(base * 0.85))
    size = round(base * block.size)
    lines = wrap(block.text, size, _text_width(block, width, size), bold=block.bold)
    return len(lines) * _line(size) + (round(base * 0.6) if block.boxed else 0)


def _text_width(block: Words, width: int, size: int) -> int:
    if block.swatch is not None:
        return width - round(size * 1.2)
    return width - size if block.boxed else width


@dataclass
class _Pen:
    draw: ImageDraw.ImageDraw
    panel: Image.Image
    left: int
    width: int
    base: int

    def put(self, block: Block, y: int) -> None:
        if isinstance(block, Words):
            self._words(block, y)
        elif isinstance(block, Bar):
            self._bar(block, y)
        elif isinstance(block, ColourBar):
            self._colour_bar(block, y)

    def _words(self, block: Words, y: int) -> None:
        size = round(self.base * block.size)
        x = self.left
        colour = block.colour
        width = _text_width(block, self.width, size)
        lines = wrap(block.text, size, width, bold=block.bold)
        if block.boxed:
            bottom = y + len(lines) * _line(size) + round(self.base * 0.5)
            self.draw.rounded_rectangle(
                (x, y, x + self.width, bottom), radius=size // 3, fill=WARNING
            )
            x, y, colour = x + size // 2, y + round(self.base * 0.2), BACKGROUND
        if block.swatch is not None:
            self.draw.rectangle(
                (x, y + size // 4, x + round(size * 0.8), y + round(size * 1.05)),
                outline=block.swatch,
                width=max(2, size // 7),
            )
            x += round(size * 1.2)
        for line in lines:
            self.draw.text((x, y), line, colour, font(size, bold=block.bold))
            y += _line(size)

    def _bar(self, block: Bar, y: int) -> None:
        size = round(self.base * 0.85)
        face = font(size, bold=block.strong)
        names = round(self.width * block.label_share)
        number = round(font(size, bold=True).getlength("> 99 %")) + size // 2
        text = block.label
        if len(wrap(text, size, names - size // 2, bold=block.strong)) > 1:
            text = wrap(text, size, names - round(size * 1.4), bold=block.strong)[0] + "…"
        colour = TEXT if block.strong else DIM
        self.draw.text((self.left, y), text, colour, face)
        x0 = self.left + names
        x1 = self.left + self.width - number
        top, bottom = y + round(size * 0.3), y + round(size * 1.0)
        self.draw.rectangle((x0, top, x1, bottom), fill=TRACK)
        filled = x0 + round((x1 - x0) * block.value)
        if filled > x0:
            self.draw.rectangle((x0, top, filled, bottom), fill=block.colour)
        self.draw.text((self.left + self.width, y), percent(block.value), colour, face, anchor="ra")

    def _colour_bar(self, block: ColourBar, y: int) -> None:
        small = round(self.base * 0.85)
        for line in wrap(block.caption, small, self.width):
            self.draw.text((self.left, y), line, DIM, font(small))
            y += _line(small)
        values = np.linspace(SALIENT, 1, self.width)
        high = round(self.base * 0.9)
        strip = np.repeat(map_colours(values)[None], high, axis=0).round().astype(np.uint8)
        self.panel.paste(Image.fromarray(strip), (self.left, y + self.base // 5))
        y += high + round(self.base * 0.3)
        self.draw.text((self.left, y), "less", DIM, font(small))
        self.draw.text((self.left + self.width, y), "more", DIM, font(small), anchor="ra")
