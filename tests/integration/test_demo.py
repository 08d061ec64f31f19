"""`make demo`'s program, with Orthanc, with the store that ships with it, and with own images."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from dicom_node.demo.orthanc import Orthanc
from dicom_node.demo.show import run_demo
from tests.peers.ports import wait_for


def _demo(folder: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "dicom_node", "demo", "--output", str(folder), *options]


def test_the_demo_ends_with_every_study_as_expected(tmp_path: Path) -> None:
    done = subprocess.run(_demo(tmp_path), capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("as expected") == 4
    assert "the PACS is Orthanc" in done.stdout
    named = re.findall(r"^  (?:less|xdg-open) (.+)$", done.stdout, re.MULTILINE)
    texts = [Path(name) for name in named if name.endswith(".txt")]
    pictures = [Path(name) for name in named if name.endswith(".png")]
    assert (len(texts), len(pictures)) == (3, 3)
    for text in texts:
        assert "research use only" in text.read_text(encoding="utf-8")
    for picture in pictures:
        with Image.open(picture) as image:
            assert min(image.size) > 800


def test_without_orthanc_the_demo_brings_its_own_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Orthanc, "program", staticmethod(lambda: None))
    shown = Console(record=True, width=200)
    assert run_demo(tmp_path, images=None, keep=False, console=shown) == 0, shown.export_text()
    assert "embedded store" in shown.export_text()


def test_own_images_are_sent_instead_and_the_demo_stays_until_interrupted(
    tmp_path: Path, shared: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("hip_cr/RG2_UNC.dcm", "hip_cr/RG2_J2KR.dcm", "mixed/US-YBR_FULL_422-EVRLE.dcm"):
        shutil.copy(shared / "dicom" / name, images)
    (images / "notes.txt").write_text("no DICOM")
    log = tmp_path / "demo.log"
    with log.open("wb") as out:
        running = subprocess.Popen(
            _demo(tmp_path / "out", "--images", str(images), "--keep"),
            stdout=out,
            stderr=out,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            wait_for("the demo's end", lambda: "left running" in log.read_text(), 300)
            assert running.poll() is None
            running.send_signal(signal.SIGINT)
            assert running.wait(timeout=90) == 0, log.read_text()
        finally:
            running.kill()
    told = log.read_text()
    results = sorted((tmp_path / "out").glob("*/results/*"))
    assert "2 studies sent, 0 images refused" in told
    assert "notes.txt" in told
    assert "hip_fixation_device" in told
    assert "none wants it" in told
    # one report and a picture for each film, all with names of their own
    names = {file.suffix: len(list(file.parent.glob(f"*{file.suffix}"))) for file in results}
    assert names == {".txt": 1, ".png": 2}
