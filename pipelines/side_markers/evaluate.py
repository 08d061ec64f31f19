"""Count what is read of the side markers of radiographs whose letters a person has listed.

python -m pipelines.side_markers.evaluate --data DIR --truth FILE.csv [--json FILE]

The table has `file`, below DIR, and `letters`: L, R, both, or nothing; letters that are mirrored or
turned far are none. An image is *right* when the letters read are those listed, *missed* when of
those listed some were not read, and *wrong* when a letter was read that is not there.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.transforms.side_markers import LEAST, SHA256, WEIGHTS, SideMarkers

TRUTH = Path(__file__).parent / "truth"
"""Lists, by eye, of the letters in two folders of the open data."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the counts, and each image that is not right."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--sha256", default=SHA256)
    parser.add_argument("--least", type=float, default=LEAST)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    counts = evaluate(
        options.data, options.truth, SideMarkers(options.weights, options.sha256, options.least)
    )
    if options.json is not None:
        options.json.write_text(json.dumps(counts, indent=2) + "\n")
    print(json.dumps(counts))
    return 0


def evaluate(data: Path, truth: Path, reader: SideMarkers) -> dict[str, int]:
    """Return the number of images with and without letters, by what was read of them."""
    counts = dict.fromkeys(("marked", "right", "missed", "wrong", "unmarked", "false"), 0)
    with truth.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        with Image.open(data / row["file"]) as image:
            pixels = np.asarray(image.convert("L"), np.float32) / 255
        read = {marker.letter for marker in reader(pixels)}
        listed = set(row["letters"])
        kinds = ["marked" if listed else "unmarked"]
        if read - listed:
            kinds.append("wrong" if listed else "false")
        elif listed:
            kinds.append("right" if read == listed else "missed")
        if kinds[-1] not in ("right", "unmarked"):
            print(f"{row['file']}: {kinds[-1]}, listed {row['letters'] or '-'}, read {read or '-'}")
        for kind in kinds:
            counts[kind] += 1
    return counts


if __name__ == "__main__":
    raise SystemExit(main())
