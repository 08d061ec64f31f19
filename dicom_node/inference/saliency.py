"""Grad-CAM from the network's own pass, brought back onto the source image's grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dicom_node.errors import PipelineError

Box = tuple[int, int, int, int]
Map = npt.NDArray[np.float32]

METHODS: Final = {"gradcam": "Grad-CAM", "gradcam++": "Grad-CAM++"}
_FLAT: Final = 1e-12


class Explainer:
    """Grad-CAM of one network on one layer, from the same forward pass as the answer.

    The layer's output is where differentiation begins: what lies before it keeps no graph, and
    only what lies behind it is gone back through, for the answers given. A network that calls the
    layer several times for one input (for the image, then for its mirror image) is explained by
    its first call, which saw the image as it is.

    Source: Selvaraju et al., ICCV 2017 (doi 10.1109/ICCV.2017.74); Grad-CAM++: Chattopadhyay et
    al., WACV 2018 (doi 10.1109/WACV.2018.00097).

    Args:
        layer: Name as in `network.named_modules()`.

    Raises:
        PipelineError: The network has no such layer.
    """

    def __init__(self, network: nn.Module, layer: str, *, method: str = "gradcam") -> None:
        layers = dict(network.named_modules())
        if layer not in layers:
            raise PipelineError(
                f"saliency layer {layer}", "the network has no such layer", "correct dicom.yaml"
            )
        self._network = network
        self._layer = layers[layer]
        self._weigh = _gradcam_plus if method == "gradcam++" else _gradcam

    @contextmanager
    def watching(self) -> Iterator[Pass]:
        """Watch the network's forward passes; the maps are asked for afterwards."""
        seen = Pass(self._weigh)
        hooks = [
            self._network.register_forward_pre_hook(seen.begin),
            self._layer.register_forward_hook(seen.keep),
        ]
        try:
            # nothing before the layer asks for a gradient: no graph is kept there
            with torch.enable_grad():
                yield seen
        finally:
            for hook in hooks:
                hook.remove()

    def __call__(self, image: Tensor, index: int) -> Map:
        """Return the map of one input by a forward pass of its own: [h, w] of the input.

        Args:
            image: [1, C, h, w]; of a batch the first is explained.
            index: Index of the output that is explained; 0 for a single number.

        Raises:
            PipelineError: The gradients are not finite.
        """
        with self.watching() as seen:
            found = self._network(image[:1].clone())
        return seen.maps(found, [index], image.shape[2:])[0]


class Pass:
    """What was seen of one batch on its way through the network, in one part or in several."""

    def __init__(self, weigh: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._weigh = weigh
        self._first = True
        self._seen: list[Tensor] = []

    def begin(self, _module: nn.Module, _inputs: Any) -> None:
        self._first = True

    def keep(self, _module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        if not self._first:
            return output
        self._first = False
        leaf = output.detach().requires_grad_(True)
        self._seen.append(leaf)
        # what follows may change its input in place, which a leaf does not bear
        return leaf.clone()

    def maps(self, output: Tensor, indices: Sequence[int], shape: Sequence[int]) -> list[Map]:
        """Return the map of each input, scaled to 0..1: [h, w].

        A map without any contrast (nothing spoke for the output) is all 0.

        Args:
            output: What the network gave in this pass, [N, ...].
            indices: For each input the output that is explained; 0 for a single number.
            shape: (h, w) of the inputs.

        Raises:
            PipelineError: The network did not use the layer, or the gradients are not finite.
        """
        places = torch.as_tensor(indices, device=output.device)[:, None]
        scores = output.reshape(len(output), -1).gather(1, places)[:, 0]
        leaves = self._last(len(output))
        gradients = (
            torch.autograd.grad(scores.sum(), leaves, allow_unused=True)
            if leaves and scores.requires_grad
            else []
        )
        known = [gradient for gradient in gradients if gradient is not None]
        if not known or len(known) < len(leaves):
            raise PipelineError(
                "saliency", "the answer does not depend on the layer", "correct dicom.yaml"
            )
        with torch.no_grad():
            raw = self._weigh(
                torch.cat([leaf.detach() for leaf in leaves])[: len(output)].float(),
                torch.cat(known)[: len(output)].float(),
            )
            if not torch.isfinite(raw).all():
                raise PipelineError(
                    "saliency", "the gradients are not finite", "check the weights and the layer"
                )
            fine = nn.functional.interpolate(
                torch.relu(raw), tuple(shape), mode="bilinear", align_corners=False
            )
        return [_scaled(values) for values in fine[:, 0].cpu().numpy()]

    def _last(self, rows: int) -> list[Tensor]:
        """Of a batch that was run again in smaller parts, what the last run saw."""
        found: list[Tensor] = []
        for leaf in reversed(self._seen):
            if sum(len(one) for one in found) < rows:
                found.insert(0, leaf)
        return found


def _gradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    weights = gradients.mean((2, 3), keepdim=True)
    return (weights * activations).sum(1, keepdim=True)


def _gradcam_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    cubed = activations * gradients**3
    below = 2 * gradients**2 + cubed.sum((2, 3), keepdim=True)
    alpha = gradients**2 / (torch.where(below != 0, below, torch.ones_like(below)) + 1e-7)
    # the paper's exp(score) is one factor of the whole map, which is scaled afterwards
    weights = (alpha * torch.relu(gradients)).sum((2, 3), keepdim=True)
    return (weights * activations).sum(1, keepdim=True)


def _scaled(values: Map) -> Map:
    low, high = float(values.min()), float(values.max())
    if high - low < _FLAT:
        return np.zeros_like(values)
    scaled: Map = (values - low) / (high - low)
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
