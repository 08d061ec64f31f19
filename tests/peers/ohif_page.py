"""OHIF's page as a reader uses it, by Playwright in Debian's Chromium."""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, TimeoutError, sync_playwright

from tests.peers.ports import wait_for

_FLAGS: Final = (
    # no GPU: OpenGL in software; and root, as in a container
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-quic", "--no-first-run"),
)
_PANE: Final = '[data-cy="viewport-pane"]'
_SERIES: Final = '[data-cy^="study-browser-thumbnail"]'
_WARNING: Final = "#status-warning"
_SECONDS: Final = 180
_OPENINGS: Final = 3
"""So often a study is opened, at most, until the viewer shows something."""


@dataclass(frozen=True)
class Listed:
    """A series as the list at the left shows it.

    Attributes:
        number: Series Number, as "S:9100".
        shown: False for one that the viewer marks as unsupported.
    """

    modality: str
    description: str
    number: str
    shown: bool


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Start Debian's Chromium without a window."""
    program = shutil.which("chromium")
    assert program, "chromium is not installed: `make peers` installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


class Viewer:
    """One study in the viewer, in a page of its own."""

    def __init__(self, page: Page, address: str, study_uid: str) -> None:
        self.page = page
        page.set_default_timeout(_SECONDS * 1000)
        # on a busy machine OHIF now and then misses its own first event, and shows nothing for
        # good, whatever the study: a reader would open it once more
        for attempt in range(_OPENINGS):
            page.goto(f"{address}/viewer?StudyInstanceUIDs={study_uid}")
            try:
                page.locator("canvas").first.wait_for(timeout=_SECONDS * 1000 / _OPENINGS)
                return
            except TimeoutError:
                if attempt == _OPENINGS - 1:
                    raise

    def series(self) -> list[Listed]:
        """What the list at the left names, when all of it is there."""
        found = []
        for item in self._items().all():
            modality, description, number, *_ = item.inner_text().split("\n")
            warned = item.locator(_WARNING).count() > 0
            found.append(Listed(modality, description, number, not warned))
        return found

    def show(self, modality: str) -> None:
        """Open the (one) series of a modality in the viewport, as a reader does."""
        for item in self._items().all():
            if item.inner_text().split("\n")[0] == modality:
                item.dblclick()
                return
        raise AssertionError(f"no {modality} in the list: {self.series()}")

    def words(self) -> str:
        """The viewport's text."""
        return self._pane().inner_text()

    def wait_for_words(self, text: str) -> str:
        """Wait until the viewport says something; returns all that it says."""
        self._pane().get_by_text(text).first.wait_for()
        return self.words()

    def wait_for_line(self, pattern: str) -> None:
        """Wait until a whole line of the viewport's text matches a regular expression."""
        line = re.compile(f"^{pattern}$", re.MULTILINE)
        wait_for(f"the line {pattern}", lambda: line.search(self.words()), _SECONDS)

    def accept_segmentation(self) -> list[str]:
        """Answer that the segmentation is wanted; returns the names of its segments."""
        self.page.locator('[data-cy="yes-hydrate-btn"]').click()
        self.page.locator('[data-cy="panelSegmentation-btn"]').click()
        rows = self.page.locator('[data-cy="data-row"]')
        rows.first.wait_for()
        return [row.inner_text().split("\n")[-1] for row in rows.all()]

    def pdf(self) -> bytes:
        """The document that the viewport shows."""
        frame = self._pane().locator("object[data], iframe[src], embed[src]").first
        frame.wait_for(state="attached")
        fetched = frame.evaluate(
            """async (frame) => {
                const answer = await fetch(frame.data ?? frame.src);
                const bytes = new Uint8Array(await answer.arrayBuffer());
                return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
            }"""
        )
        return base64.b64decode(str(fetched))

    def picture(self) -> np.ndarray:
        """The pixels that the viewport has drawn, [H, W, 3], without the words over them."""
        url = self._pane().locator("canvas").first.evaluate("canvas => canvas.toDataURL()")
        png = base64.b64decode(str(url).partition(",")[2])
        with Image.open(io.BytesIO(png)) as image:
            return np.asarray(image.convert("RGB"))

    def wait_for_picture(self, wanted: np.ndarray, *, within: float = 0.02) -> None:
        """Wait until the viewport shows a picture, as large as it goes.

        Args:
            wanted: [H, W, 3], as stored.
            within: Greatest mean difference of the colours, of 1.
        """
        wait_for("the picture", lambda: difference(self.picture(), wanted) < within, _SECONDS)

    def wait_for_colour(self, hue: tuple[int, int, int]) -> None:
        """Wait until a patch of the picture, otherwise grey, has about the hue of a colour."""
        wanted = np.asarray(hue) - np.mean(hue)

        def seen() -> bool:
            pixels = self.picture().reshape(-1, 3).astype(float)
            chroma = pixels - pixels.mean(axis=1, keepdims=True)
            strength = np.linalg.norm(chroma, axis=1)
            coloured = strength > 20
            if coloured.sum() < 100:
                return False
            alike = chroma[coloured] @ wanted / (strength[coloured] * np.linalg.norm(wanted))
            return bool(np.mean(alike > 0.95) > 0.9)

        wait_for(f"the colour {hue}", seen, _SECONDS)

    def screenshot(self, file: Path) -> None:
        """Write what the reader sees."""
        file.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=file)

    def _items(self) -> Locator:
        self.page.locator(_SERIES).first.wait_for()
        return self.page.locator(_SERIES)

    def _pane(self) -> Locator:
        return self.page.locator(_PANE).first


def difference(seen: np.ndarray, wanted: np.ndarray) -> float:
    """Mean difference of colours, 0 to 1, of a canvas and the picture that it should show."""
    height, width = wanted.shape[:2]
    scale = min(seen.shape[0] / height, seen.shape[1] / width)
    size = (round(width * scale), round(height * scale))
    fitted = Image.fromarray(wanted).resize(size, Image.Resampling.BILINEAR)
    expected = Image.new("RGB", (seen.shape[1], seen.shape[0]))
    expected.paste(fitted, ((expected.width - size[0]) // 2, (expected.height - size[1]) // 2))
    return float(np.abs(np.asarray(expected, int) - seen).mean() / 255)
