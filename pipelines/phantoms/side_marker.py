"""Side markers as they lie on radiographs, and what is easily taken for one, on any background.

Lead letters, letters that the acquisition software burns in, with or without a plate; beside them
words, other letters, letters that are mirrored or lie on their side, rings and strokes. Fonts are
those that Matplotlib brings; lead letters are drawn by strokes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Array = npt.NDArray[np.float32]

NONE, LEFT, RIGHT = range(3)
"""What an item is: no marker, L, R."""

_FONTS: Final = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "STIXGeneral",
    "STIXGeneralBol",
    "cmss10",
    "cmb10",
)
_OTHERS: Final = "ABCDEFGHIJKMNOPQSTUVWXYZ0123456789"
_WORDS: Final = ("LEFT", "RIGHT", "PORTABLE", "UPRIGHT", "LAT", "LL", "RL", "SUPINE", "DR", "LR")
_FINE: Final = 4
"""Items are drawn so many times larger, and reduced."""


@dataclass(frozen=True, slots=True)
class Item:
    """What was drawn: NONE, LEFT or RIGHT, the letter's centre (row, column) and height, pixels."""

    kind: int
    row: float
    column: float
    height: float


def put_item(
    rng: np.random.Generator, background: Array, height: float, marker: float = 0.6
) -> tuple[Array, Item]:
    """Draw one item on a background: [H, W] in 0..1.

    Args:
        height: Of a capital letter, in pixels.
        marker: How often it is a marker.
    """
    is_marker = rng.random() < marker
    mask, kind = _letter(rng, is_marker, height)
    high, wide = mask.shape
    rows, columns = background.shape
    row = float(rng.uniform(0.5 * height, rows - 0.5 * height))
    column = float(rng.uniform(0.5 * height, columns - 0.5 * height))
    top, left = round(row - high / 2), round(column - wide / 2)
    plate = _plate(rng, mask.shape, height) if rng.random() < 0.5 else None
    out = background.copy()
    inside = np.s_[max(0, top) : top + high, max(0, left) : left + wide]
    cut = np.s_[max(0, -top) : rows - top, max(0, -left) : columns - left]
    ink = float(rng.uniform(0, 1))
    if plate is not None:
        cover, shade, edge = plate
        cover, edge = cover[cut], edge[cut]
        out[inside] = out[inside] * (1 - cover) + shade * cover
        out[inside] = out[inside] * (1 - edge) + float(rng.uniform(0, 1)) * edge
        while abs(ink - shade) < 0.2:
            ink = float(rng.uniform(0, 1))
    else:
        near = float(np.median(out[inside]))
        ink = float(rng.uniform(min(near + 0.15, 1), 1.1)) if rng.random() < 0.93 else near - 0.3
        ink = ink if abs(ink - near) > 0.12 else near + 0.2
    opaque = rng.uniform(0.7, 1) * mask[cut]
    out[inside] = out[inside] * (1 - opaque) + ink * opaque
    return np.clip(out, 0, 1).astype(np.float32), Item(
        kind, top + high / 2, left + wide / 2, height
    )


def as_acquired(rng: np.random.Generator, image: Array) -> Array:
    """Blur, noise and another contrast, as detectors and their software leave them."""
    out = image
    if rng.random() < 0.5:
        out = ndimage.gaussian_filter(out, rng.uniform(0.2, 0.9))
    out = out + rng.normal(0, rng.uniform(0, 0.05), out.shape)
    out = np.clip(out, 0, 1) ** rng.uniform(0.6, 1.6)
    return np.asarray(out * rng.uniform(0.5, 1) + rng.uniform(0, 0.1), np.float32)


def _letter(rng: np.random.Generator, is_marker: bool, height: float) -> tuple[Array, int]:
    """Draw one letter, or what is none, in the middle of a square: its mask and what it is."""
    text, kind = ("L", LEFT) if rng.random() < 0.5 else ("R", RIGHT)
    turn, mirrored, beside, is_large = float(rng.normal(0, 9)), False, "", False
    if is_marker:
        turn = float(np.clip(turn, -20, 20))
        if rng.random() < 0.3:
            beside = "".join(rng.choice(list(_OTHERS + "LR"), int(rng.integers(1, 4))))
    else:
        kind = NONE
        how = rng.integers(0, 10)
        if how < 3:
            text = str(rng.choice(list(_OTHERS)))
        elif how == 3:
            mirrored = True
            text = "LR"[int(rng.integers(2))]
        elif how == 4:
            turn = float(rng.uniform(50, 310))
        elif how < 7:
            text = str(rng.choice(_WORDS)) if rng.random() < 0.4 else _word(rng)
        else:
            text = ""
            is_large = how > 7
    side = 4 * round(height) * _FINE
    picture = Image.new("L", (side, side))
    draw = ImageDraw.Draw(picture)
    size = height * _FINE
    if is_large:
        _corner_or_weave(rng, draw, side)
    elif not text:
        _stroke_or_ring(rng, draw, side, size)
    elif len(text) == 1 and text in "LR" and rng.random() < 0.4:
        _lead(rng, draw, text, side, size)
    else:
        font = _font(str(rng.choice(_FONTS)), size)
        stroke = int(rng.integers(0, 1 + max(1, size // 16)))
        # of a word, one of its letters lies in the middle
        at = int(rng.integers(0, len(text)))
        before, own = font.getlength(text[:at]), font.getlength(text[at])
        _, top, _, bottom = font.getbbox("R")
        x = side / 2 - before - own / 2
        y = side / 2 - (top + bottom) / 2
        draw.text((x, y), text, fill=255, font=font, stroke_width=stroke)
    if beside:
        small = _font(str(rng.choice(_FONTS)), size * float(rng.uniform(0.3, 0.6)))
        y = side / 2 + size * float(rng.uniform(0.65, 0.9))
        draw.text((side / 2 - small.getlength(beside) / 2, y), beside, fill=255, font=small)
    if mirrored:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        turn = float(np.clip(turn, -20, 20))
    wide = float(rng.uniform(0.8, 1.2))
    shear = float(rng.normal(0, 0.07))
    middle = side / 2
    angle = np.deg2rad(turn)
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    a, b, d, e = cos / wide, (sin + shear) / wide, -sin, cos
    turned = picture.transform(
        picture.size,
        Image.Transform.AFFINE,
        (a, b, middle - a * middle - b * middle, d, e, middle - d * middle - e * middle),
        Image.Resampling.BILINEAR,
    )
    small_side = side // _FINE
    mask = np.asarray(turned.resize((small_side, small_side), Image.Resampling.BOX), np.float32)
    return mask / 255, kind


def _word(rng: np.random.Generator) -> str:
    letters = rng.choice(list(_OTHERS[:24] + "LLLRRR"), int(rng.integers(2, 7)))
    return "".join(letters)


@functools.lru_cache(maxsize=4096)
def _face(name: str, size: int) -> ImageFont.FreeTypeFont:
    import matplotlib as mpl

    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / f"{name}.ttf"), size)


def _font(name: str, capital: float) -> ImageFont.FreeTypeFont:
    """Return the font in which a capital letter is so many pixels high."""
    _, top, _, bottom = _face(name, 100).getbbox("R")
    return _face(name, max(4, round(100 * capital / (bottom - top))))


def _lead(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, text: str, side: int, size: float
) -> None:
    """Draw a letter of bent wire or punched lead by its strokes."""
    pen = round(size * float(rng.uniform(0.08, 0.3)))
    wide = size * float(rng.uniform(0.45, 0.75))
    top, bottom = side / 2 - size / 2 + pen / 2, side / 2 + size / 2 - pen / 2
    left, right = side / 2 - wide / 2, side / 2 + wide / 2
    if text == "L":
        lines = [[(left, top), (left, bottom), (right, bottom)]]
    else:
        waist = top + (bottom - top) * float(rng.uniform(0.45, 0.58))
        bow = (waist - top) / 2
        bend = [
            (right - bow + bow * np.cos(t), top + bow + bow * np.sin(t))
            for t in np.linspace(-np.pi / 2, np.pi / 2, 9)
        ]
        lines = [[(left, bottom), (left, top), *bend, (left, waist)]]
        foot = left + (right - left) * float(rng.uniform(0.2, 0.6))
        lines.append([(foot, waist), (right, bottom)])
    for line in lines:
        draw.line([(float(x), float(y)) for x, y in line], fill=255, width=pen, joint="curve")
        for x, y in line:
            half = pen / 2
            draw.ellipse((x - half, y - half, x + half, y + half), fill=255)


def _stroke_or_ring(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, side: int, size: float
) -> None:
    middle, pen = side / 2, max(1, round(size * float(rng.uniform(0.06, 0.3))))
    if rng.random() < 0.5:
        half = size * rng.uniform(0.2, 0.6)
        box = (middle - half, middle - half, middle + half, middle + half)
        draw.ellipse(box, outline=255, width=pen, fill=255 if rng.random() < 0.3 else None)
        return
    corner = [tuple(float(v) for v in middle + rng.uniform(-0.6, 0.6, 2) * size) for _ in range(3)]
    draw.line(corner[: int(rng.integers(2, 4))], fill=255, width=pen)


def _corner_or_weave(rng: np.random.Generator, draw: ImageDraw.ImageDraw, side: int) -> None:
    """Draw the corner of something large, as of a prosthesis or the film, or crossing lines."""
    middle = side / 2
    if rng.random() < 0.6:
        turn, wide = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.65) * np.pi
        if rng.random() < 0.5:
            turn, wide = np.pi / 2 * int(rng.integers(4)), np.pi / 2
        x, y = (float(v) for v in middle + rng.normal(0, 0.08, 2) * side)
        ends = [
            (x + side * float(np.cos(t)), y + side * float(np.sin(t))) for t in (turn, turn + wide)
        ]
        draw.polygon([(x, y), *ends], fill=255)
        return
    pen = int(rng.integers(1, 8))
    for at in np.arange(0, side, int(rng.integers(2 * pen + 2, 60))):
        draw.line([(float(at), 0), (float(at), side)], fill=255, width=pen)
        if rng.random() < 0.9:
            draw.line([(0, float(at)), (side, float(at))], fill=255, width=pen)


def _plate(
    rng: np.random.Generator, shape: tuple[int, ...], height: float
) -> tuple[Array, float, Array]:
    """Return where a plate around the letter lies, its shade, and where its edge does."""
    rows, columns = (np.abs(np.arange(n) - (n - 1) / 2) for n in shape)
    high = height * float(rng.uniform(0.6, 1.1))
    wide = high * float(rng.uniform(0.6, 1.2))
    inside = np.outer(rows <= high, columns <= wide).astype(np.float32)
    inner = np.outer(rows <= high - 1, columns <= wide - 1).astype(np.float32)
    edge = (inside - inner) * float(rng.random() < 0.6)
    return inside * float(rng.uniform(0.8, 1)), float(rng.uniform(0, 1)), edge
