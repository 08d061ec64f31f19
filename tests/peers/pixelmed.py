"""PixelMed's DicomSRValidator (Debian: pixelmed-apps), with which IHE tests AI Results."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

_JAR = "/usr/share/java/pixelmed.jar"
_SOURCE = Path(__file__).with_name("SrValidator.java")
_NO_LIMITS = [  # Java's own limits refuse the validator's stylesheets
    f"-Djdk.xml.{name}=0" for name in ("xpathExprGrpLimit", "xpathExprOpLimit", "xpathTotalOpLimit")
]
_DONE = "IOD validation complete"


def validate_documents(files: Iterable[Path], *, timeout: float = 400) -> dict[Path, list[str]]:
    """What it says of each SR: lines that begin with "Error" or "Warning".

    Raises:
        AssertionError: It did not come to the end of a document.
    """
    wanted = list(files)
    done = subprocess.run(
        ["java", *_NO_LIMITS, "-cp", _JAR, str(_SOURCE), *map(str, wanted)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    parts = re.split(r"^FILE (.+)$", done.stdout, flags=re.MULTILINE)[1:]
    said = {
        Path(name): text.splitlines() for name, text in zip(parts[::2], parts[1::2], strict=True)
    }
    assert list(said) == wanted
    for file, lines in said.items():
        # Basic Text SR has no numbers, and so no template of measurements
        assert any("TID_1500" in line or "BasicTextSR IOD" in line for line in lines), file
        assert _DONE in lines, file
    return {
        file: [line for line in lines if line.startswith(("Error", "Warning"))]
        for file, lines in said.items()
    }
