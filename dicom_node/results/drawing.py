"""Drawing on a picture: fonts, colours, blended maps, outlines; no DICOM here."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Colour = tuple[int, int, int]
Rgb = npt.NDArray[np.uint8]
"""[H, W, 3]."""

BACKGROUND: Final[Colour] = (16, 20, 26)
TEXT: Final[Colour] = (235, 240, 245)
DIM: Final[Colour] = (160, 170, 182)
WARNING: Final[Colour] = (255, 190, 60)
TRACK: Final[Colour] = (56, 64, 74)

SUBJECT_COLOURS: Final[tuple[Colour, ...]] = (
    (86, 180, 233),
    (120, 220, 170),
    (240, 228, 66),
    (220, 150, 195),
    (255, 255, 255),
    (230, 159, 0),
)
"""Told apart by colour-blind eyes (after Okabe and Ito), and seen on the heat map."""

COLOUR_MAP: Final = "inferno"
"""Perceptually uniform and read alike with any colour vision (matplotlib)."""

SALIENT: Final = 0.3
"""Below this the picture stays as it is; above, the map fades in."""

_OPACITY: Final = 0.5
_FONT_DIR: Final = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@cache
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib, so that no system font is needed."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(_FONT_DIR / name), max(8, size))


def wrap(text: str, size: int, width: int, *, bold: bool = False) -> list[str]:
    """Break a text into lines of at most `width` pixels; a word that is longer is cut."""
    face = font(size, bold=bold)
    lines: list[str] = []
    line = ""
    for word in text.split():
        for piece in _pieces(word, face, width):
            tried = f"{line} {piece}".strip()
            if line and face.getlength(tried) > width:
                lines.append(line)
                line = piece
            else:
                line = tried
    return [*lines, line] if line else lines


def _pieces(word: str, face: ImageFont.FreeTypeFont, width: int) -> list[str]:
    pieces = []
    while word and face.getlength(word) > width:
        cut = next(n for n in range(len(word), 0, -1) if n == 1 or face.getlength(word[:n]) < width)
        pieces.append(word[:cut])
        word = word[cut:]
    return [*pieces, word] if word else pieces


def grey_to_rgb(picture: npt.NDArray[np.uint8]) -> Rgb:
    """[H, W] to [H, W, 3]."""
    return np.repeat(picture[:, :, None], 3, axis=2)


def map_colours(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Colours, [..., 3] in 0..255, of saliency values in 0..1.

    The map's dark end is left out: it would darken bone where it is only a little salient.
    """
    reach = 0.3 + 0.7 * np.clip((values - SALIENT) / (1 - SALIENT), 0, 1)
    colours = matplotlib.colormaps[COLOUR_MAP](reach)[..., :3] * 255
    return np.asarray(colours, np.float32)


def opacity(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """How much of the colour is laid over the picture, 0 where not salient."""
    ramp = np.clip((values - SALIENT) / 0.35, 0, 1)
    return np.asarray(_OPACITY * ramp * ramp * (3 - 2 * ramp), np.float32)


def blend_saliency(picture: Rgb, saliency: npt.NDArray[np.float32]) -> Rgb:
    """Lay a map in 0..1, [H, W], over a picture of the same size, only where it is salient."""
    salient = saliency > SALIENT
    if not salient.any():
        return picture
    values = saliency[salient]
    alpha = opacity(values)[:, None]
    out = picture.copy()
    out[salient] = (picture[salient] * (1 - alpha) + map_colours(values) * alpha).round()
    return out


def outline_mask(picture: Rgb, mask: npt.NDArray[np.bool_], colour: Colour, line: int) -> Rgb:
    """Tint a region slightly and draw its border inside itself, [H, W] bool."""
    if not mask.any():
        return picture
    inner = _inside(mask, line)
    out = picture.copy()
    tint = np.array(colour, np.float32) * np.float32(0.18)
    out[inner] = (picture[inner] * np.float32(0.82) + tint).round()
    out[mask & ~inner] = colour
    return out


def _inside(mask: npt.NDArray[np.bool_], line: int) -> npt.NDArray[np.bool_]:
    """The mask without its outermost `line` pixels; the picture's edge is no border."""
    inner = ndimage.binary_erosion(mask, iterations=max(1, line), border_value=1)
    return np.asarray(inner, np.bool_)


def outline_box(
    canvas: Image.Image, box: tuple[int, int, int, int], colour: Colour, line: int
) -> None:
    """Draw (left, top, right, bottom) with a dark edge, so that it is seen on bone and on air."""
    draw = ImageDraw.Draw(canvas)
    left, top, right, bottom = box
    edge = max(1, line // 2)
    draw.rectangle(
        (left - edge, top - edge, right + edge, bottom + edge),
        outline=(0, 0, 0),
        width=line + 2 * edge,
    )
    draw.rectangle((left, top, right, bottom), outline=colour, width=line)


def resize(
    array: npt.NDArray[np.generic], size: tuple[int, int], *, smooth: bool = True
) -> npt.NDArray[np.generic]:
    """Resize [H, W] (uint8, float32 or bool) to (width, height)."""
    if (array.shape[1], array.shape[0]) == size:
        return array
    if array.dtype == np.bool_:
        image = Image.fromarray(array.astype(np.uint8) * 255)
        return np.asarray(image.resize(size, Image.Resampling.BILINEAR)) > 127
    shrinks = size[0] < array.shape[1]
    how = Image.Resampling.LANCZOS if shrinks and smooth else Image.Resampling.BICUBIC
    if array.dtype == np.float32:
        how = Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(array).resize(size, how))
