"""Calibration that weights bring with them: numbers of `postprocessing`, in the file's metadata.

Temperature and thresholds are fitted to one network's weights. Those that ship have them in
`configs/inference.yaml`; a site's own weights carry theirs, so that the two are never mixed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Final

from dicom_node.errors import PipelineError

METADATA_KEY: Final = "calibration"
_PART: Final = "postprocessing::"


def to_metadata(numbers: Mapping[str, float]) -> dict[str, str]:
    """Return the metadata for `safetensors.torch.save_file`.

    Args:
        numbers: By their place in inference.yaml, as MONAI writes it:
            `postprocessing::transforms::0::temperature`.
    """
    return {METADATA_KEY: json.dumps(dict(numbers), sort_keys=True)}


def calibration_of(content: bytes, name: str) -> dict[str, float]:
    """Return the numbers in a safetensors file; {} when it has none.

    Source: the format's header, https://github.com/huggingface/safetensors (Format).

    Args:
        content: A file that safetensors has read.
        name: The pipeline's, for the error.

    Raises:
        PipelineError: They are no finite numbers of `postprocessing`.
    """
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    text = header.get("__metadata__", {}).get(METADATA_KEY)
    if text is None:
        return {}
    try:
        found = json.loads(text)
        numbers = {str(key): float(value) for key, value in found.items()}
    except (ValueError, TypeError, AttributeError):
        numbers = {"": math.nan}
    if not all(key.startswith(_PART) and math.isfinite(v) for key, v in numbers.items()):
        raise PipelineError(
            f"pipeline {name}",
            "the calibration in its weights is not made of numbers of `postprocessing`",
            "train again, or use weights without calibration",
        )
    return numbers
