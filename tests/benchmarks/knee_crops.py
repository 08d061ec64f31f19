"""The command line of the benchmarks that look at joint crops: which crops they are to take."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipelines.knee_kl_ensemble.data import Knees, read_knees


def asked_crops(about: str | None) -> Knees:
    """Read the crops that the command line asks for; `about` is what its help says."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--images", type=int, default=200, help="at most so many, evenly taken")
    options = parser.parse_args()
    return read_knees(options.data, options.split, limit=options.images)
