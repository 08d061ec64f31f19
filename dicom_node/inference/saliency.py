"""Grad-CAM by MONAI, brought back onto the source image's grid."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from monai.visualize import GradCAM, GradCAMpp
from torch import Tensor, nn

from dicom_node.errors import PipelineError

Box = tuple[int, int, int, int]

METHODS: Final = {"gradcam": "Grad-CAM", "gradcam++": "Grad-CAM++"}
_FLAT: Final = 1e-12


class Explainer:
    """Grad-CAM of one network on one layer; kept, as MONAI hooks into the network for good.

    Source: Selvaraju et al., ICCV 2017 (doi 10.1109/ICCV.2017.74); Grad-CAM++: Chattopadhyay et
    al., WACV 2018 (doi 10.1109/WACV.2018.00097).

    Args:
        layer: Name as in `network.named_modules()`.

    Raises:
        PipelineError: The network has no such layer.
    """

    def __init__(self, network: nn.Module, layer: str, *, method: str = "gradcam") -> None:
        if layer not in dict(network.named_modules()):
            raise PipelineError(
                f"saliency layer {layer}", "the network has no such layer", "correct dicom.yaml"
            )
        kind = GradCAMpp if method == "gradcam++" else GradCAM
        # MONAI's own postprocessing turns the map upside down (its smallest becomes 1)
        self._cam = kind(network, target_layers=layer, postprocessing=lambda found: found)

    def __call__(self, image: Tensor, index: int) -> npt.NDArray[np.float32]:
        """Return the map of one input, scaled to 0..1: [h, w] of the input.

        A map without any contrast (nothing spoke for the output) is all 0.

        Args:
            image: [1, C, h, w]; of a batch the first is explained.
            index: Index of the output that is explained; 0 for a single number.

        Raises:
            PipelineError: The gradients are not finite.
        """
        with torch.enable_grad():
            found = self._cam(image[:1].clone().requires_grad_(True), class_idx=index)
        values = found.detach().cpu().numpy()[0, 0].astype(np.float32)
        if not np.isfinite(values).all():
            raise PipelineError(
                "saliency", "the gradients are not finite", "check the weights and the layer"
            )
        low, high = float(values.min()), float(values.max())
        if high - low < _FLAT:
            return np.zeros_like(values)
        scaled: npt.NDArray[np.float32] = (values - low) / (high - low)
        return scaled


def onto_source(
    map_: npt.NDArray[np.float32], shape: tuple[int, int], box: Box | None, mirror: bool
) -> npt.NDArray[np.float32]:
    """Put a map of a crop onto the source's grid; outside the crop it is 0.

    Args:
        map_: [h, w] over the crop's field of view.
        shape: (H, W) of the source.
        box: (left, top, width, height) of the crop; None: the whole image.
    """
    if mirror:
        map_ = map_[:, ::-1]
    left, top, width, height = box or (0, 0, shape[1], shape[0])
    whole = torch.nn.functional.interpolate(
        torch.from_numpy(map_.copy())[None, None],
        size=(height, width),
        mode="bilinear",
        align_corners=False,
    )[0, 0].numpy()
    out = np.zeros(shape, np.float32)
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + height, shape[0]), min(left + width, shape[1])
    if y1 > y0 and x1 > x0:
        out[y0:y1, x0:x1] = whole[y0 - top : y1 - top, x0 - left : x1 - left]
    return out


def crop(image: Tensor, box: Box | None, mirror: bool) -> Tensor:
    """Cut a box out of [C, H, W]; what lies outside the image is 0."""
    if box is not None:
        left, top, width, height = box
        out = image.new_zeros((image.shape[0], height, width))
        y0, x0 = max(top, 0), max(left, 0)
        y1, x1 = min(top + height, image.shape[1]), min(left + width, image.shape[2])
        if y1 > y0 and x1 > x0:
            out[:, y0 - top : y1 - top, x0 - left : x1 - left] = image[:, y0:y1, x0:x1]
        image = out
    return image.flip(-1) if mirror else image
