"""Images that show no AP hip: limbs, hands, trunks and test shapes, with and without metal.

A network that has only ever seen hips calls everything a hip. These rough drawings, seen from any
angle, are there to be refused; they are no model of any body part.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.phantoms.outlines import Array, OutlineCanvas, stamp, texture

Point = tuple[float, float]


def no_hip(seed: int, size: int = 256) -> npt.NDArray[np.float32]:
    """Draw one image [size, size] in 0..1; same seed, same image."""
    rng = np.random.default_rng([seed, 77])
    draw = (_limb, _limb, _hand, _trunk, _shapes)[int(rng.integers(5))]
    canvas = OutlineCanvas(
        (size, size), 256 / size, (128 + rng.normal(0, 8), 128 + rng.normal(0, 8)), 1.0, flip=False
    )
    image = draw(canvas, rng)
    spacing = 256 / size
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    image = image * (1 + 0.15 * (rows * rng.uniform(-1, 1) + columns * rng.uniform(-1, 1)))
    image = np.clip(image, 0, 1.1) ** rng.uniform(0.6, 1.3) * rng.uniform(0.7, 1.0)
    image = image + rng.uniform(0, 0.08) + rng.normal(0, rng.uniform(0.003, 0.03), image.shape)
    if rng.random() < 0.5:
        edge = [int(n) for n in rng.uniform(1, 0.12 * size, 4)]
        inside = np.zeros(image.shape, bool)
        inside[edge[0] : size - edge[1], edge[2] : size - edge[3]] = True
        image = np.where(inside, image, 0.97 if rng.random() < 0.2 else 0.01)
    if rng.random() < 0.4:
        stamp(image, "RL"[int(rng.integers(2))], spacing, left=bool(rng.random() < 0.5))
    return np.clip(image, 0, 1).astype(np.float32)


def _bone(canvas: OutlineCanvas, start: Point, end: Point, width: float, flare: float) -> Array:
    """A shaft that widens to its ends, with a cortex."""
    distance, share = canvas.to_segment(start, end)
    radius = width / 2 * (1 + flare * np.abs(2 * share - 1) ** 5)
    depth = np.clip(radius - distance, 0, None)
    shell = np.exp(-(((depth - 1.6) / 1.8) ** 2)) * (depth > 0)
    found: Array = 0.22 * np.sqrt(np.clip(depth / (width / 2), 0, 1)) + 0.22 * shell
    return found


def _metal(canvas: OutlineCanvas, rng: np.random.Generator, start: Point, end: Point) -> Array:
    """A plate or a nail along a bone, with screws; or a few beads or a ring."""
    a, b = np.array(start), np.array(end)
    along = (b - a) / max(1.0, float(np.hypot(*(b - a))))
    across = np.array([-along[1], along[0]])
    low, high = np.sort(rng.uniform(0.1, 0.9, 2))
    first, last = a + (b - a) * low, a + (b - a) * max(high, low + 0.15)
    shift = across * rng.choice([-1, 0, 1]) * rng.uniform(4, 10)
    lines: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]] = [
        (first + shift, last + shift, rng.uniform(2, 7))
    ]
    for n in range(int(rng.integers(0, 9))):
        at = first + (last - first) * (n + 0.5) / 9 + shift
        lines.append((at, at - across * rng.choice([-1, 1]) * rng.uniform(8, 30), 2.0))
    if rng.random() < 0.25:
        lines = [(p, p + 1, rng.uniform(2, 7)) for p in rng.uniform(-90, 90, (4, 2))]
    total = np.zeros(canvas.shape)
    for p, q, radius in lines:
        distance, _ = canvas.to_segment((float(p[0]), float(p[1])), (float(q[0]), float(q[1])))
        total = np.maximum(total, 1.1 * np.clip((radius - distance) / 1.5, 0, 1))
    return total


def _limb(canvas: OutlineCanvas, rng: np.random.Generator) -> Array:
    angle = rng.normal(0, 0.25) if rng.random() < 0.7 else rng.uniform(0, np.pi)
    along = np.array([np.sin(angle), np.cos(angle)])
    across = np.array([along[1], -along[0]])
    reach = rng.uniform(90, 220)
    width = rng.uniform(35, 130)
    middle = rng.normal(0, 15, 2)
    ends = [tuple(map(float, middle + s * along * 300)) for s in (-1, 1)]
    distance, _ = canvas.to_segment(ends[0], ends[1])
    image: Array = 0.4 * np.sqrt(np.clip((width / 2 - distance) / 30, 0, 1))
    number = int(rng.choice([1, 2, 2, 3]))
    for n in range(number):
        base = middle + across * (n - (number - 1) / 2) * width / (number + 1.2)
        tilt = across * rng.normal(0, 6)
        a, b = base - along * reach - tilt, base + along * reach * rng.uniform(0.3, 1.2) + tilt
        start, end = (float(a[0]), float(a[1])), (float(b[0]), float(b[1]))
        image = image + _bone(canvas, start, end, rng.uniform(9, 34), rng.uniform(0, 1.6))
        if rng.random() < 0.35:
            shade = _metal(canvas, rng, start, end)
            image = np.maximum(image, shade)
    return image


def _hand(canvas: OutlineCanvas, rng: np.random.Generator) -> Array:
    turn = rng.uniform(0, 2 * np.pi) if rng.random() < 0.4 else rng.normal(np.pi, 0.4)
    image = np.zeros(canvas.shape)
    for finger in range(5):
        angle = turn + (finger - 2) * rng.uniform(0.12, 0.35)
        way = np.array([np.sin(angle), np.cos(angle)])
        at = way * 18.0
        for length in (38, 26, 18, 12):
            end = at + way * length
            segment = ((float(at[0]), float(at[1])), (float(end[0]), float(end[1])))
            image = image + _bone(canvas, *segment, rng.uniform(7, 11), 0.5)
            distance, _ = canvas.to_segment(*segment)
            image = np.maximum(image, 0.25 * np.sqrt(np.clip((11 - distance) / 11, 0, 1)))
            at = end + way * 3
    for y, x in rng.uniform(-20, 20, (8, 2)):
        image = image + 0.3 * canvas.blob((y, x), (7, 7))
    back = -np.array([np.sin(turn), np.cos(turn)])
    for n in (-1, 1):
        a = back * 25 + n * np.array([back[1], -back[0]]) * 10
        b = back * 160 + n * np.array([back[1], -back[0]]) * 9
        start, end = (float(a[0]), float(a[1])), (float(b[0]), float(b[1]))
        image = image + _bone(canvas, start, end, 15, 0.8)
        if rng.random() < 0.3:
            image = np.maximum(image, _metal(canvas, rng, start, end))
    return image


def _trunk(canvas: OutlineCanvas, rng: np.random.Generator) -> Array:
    image: Array = 0.45 * np.clip(1.3 - np.hypot(canvas.x / 125, canvas.y / 150), 0, 1)
    for side in (-1, 1):  # lungs, or bowel gas
        if rng.random() < 0.8:
            image = image - 0.3 * canvas.blob((rng.normal(-20, 20), side * 55), (70, 32))
    for n in range(9):
        y = -110 + 27 * n
        if rng.random() < 0.8:
            for side in (-1, 1):
                line = [(side * 8.0, y), (side * 70.0, y + 12.0), (side * 105.0, y + 45.0)]
                image = image + 0.1 * canvas.curve(line, 4)
        box = (np.abs(canvas.x) < 19) & (np.abs(canvas.y - y) < 10)
        image = image + 0.2 * ndimage.gaussian_filter(box.astype(float), 1.2)
    if rng.random() < 0.3:
        image = np.maximum(image, _metal(canvas, rng, (0, -100), (0, 100)))
    return np.clip(image, 0, None)


def _shapes(canvas: OutlineCanvas, rng: np.random.Generator) -> Array:
    image = np.full(canvas.shape, rng.uniform(0, 0.5))
    image = image + rng.uniform(0, 0.08) * texture(rng, canvas.shape, 1.0)
    for _ in range(int(rng.integers(1, 12))):
        y, x = rng.uniform(-110, 110, 2)
        high, wide = rng.uniform(2, 90, 2)
        if rng.random() < 0.5:
            box = (np.abs(canvas.x - x) < wide) & (np.abs(canvas.y - y) < high)
        else:
            box = ((canvas.x - x) / wide) ** 2 + ((canvas.y - y) / high) ** 2 < 1
        image = np.where(box, rng.uniform(0, 1), image)
    if rng.random() < 0.3:
        steps = int(rng.integers(4, 16))
        image = image * 0.3 + np.floor((canvas.y / 256 + 0.5) * steps) / steps * 0.7
    return image
