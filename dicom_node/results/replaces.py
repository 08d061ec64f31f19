"""What a report says of the earlier one that it replaces."""

from __future__ import annotations

from dicom_node.model.findings import Algorithm
from dicom_node.model.predecessor import Predecessor


def replaces_in_words(earlier: Predecessor, algorithm: Algorithm) -> str:
    """One sentence: that it replaces an earlier result, and what was different then.

    "Replaces the earlier AI result of version 0.1.0, which was made before 1 of these images came."
    """
    said = "Replaces the earlier AI result"
    if earlier.version != algorithm.version:
        said += f" of version {earlier.version}"
    made = []
    other_weights = earlier.weights_sha256 not in ("", algorithm.weights_sha256)
    if other_weights and earlier.version == algorithm.version:
        made.append("with other weights")
    if earlier.more_images:
        made.append(f"before {earlier.more_images} of these images came")
    elif earlier.fewer_images:
        made.append("from more images")
    return f"{said}, which was made {' and '.join(made)}." if made else f"{said}."
