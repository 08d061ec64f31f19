"""Between the reader and a bundle: the image as it takes it, the output as it knows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.data import MetaTensor
from torch import Tensor

from dicom_node.inference.saliency import crop
from dicom_node.model.pipeline import InputKind, InputSelector
from dicom_node.model.targets import Target


def presented(selector: InputSelector, image: Tensor, target: Target) -> Tensor:
    """Return the image as a bundle's preprocessing gets it.

    Args:
        image: [1, H, W] or [1, H, W, D] of the source.

    Returns:
        [channels, h, w] of the target's box, or the whole volume, [channels, H, W, D].
    """
    if selector.kind is InputKind.RADIOGRAPH:
        image = crop(image, target.box, target.mirror)
    if selector.channels > 1:
        # a grey image for a network that was trained on colour ones
        image = image.repeat(selector.channels, *[1] * (image.ndim - 1))
    return image


def with_prediction(data: Mapping[str, Any], prediction: Any) -> dict[str, Any]:
    """Put a network's output where MONAI's postprocessing looks for it.

    `pred` is the output for this target; a map over the image knows the image's grid, so that
    `Invertd` can bring it back. A detector's dict also stands under its own keys, as MONAI's
    detection bundles have it. `network_output` stays as it is, whatever postprocessing makes
    of `pred`.
    """
    found = prediction if data.get("batched") else _first(prediction)
    image = data["image"]
    over_image = isinstance(found, Tensor) and found.ndim == image.ndim and not data.get("batched")
    if over_image and isinstance(image, MetaTensor):
        found = MetaTensor(found, meta=image.meta)
    boxes = found if isinstance(found, Mapping) else {}
    return {**data, **boxes, "pred": found, "network_output": found}


def _first(prediction: Any) -> Any:
    """Take the batch dimension off whatever a network returns."""
    if isinstance(prediction, Mapping):
        return {key: _first(value) for key, value in prediction.items()}
    if isinstance(prediction, list | tuple):
        first: Any = prediction[0]
        # a detector returns a dict for each image, a network of several outputs a batch for each
        if isinstance(first, Mapping):
            return first
        return [_first(value) for value in prediction]
    return prediction[0]
