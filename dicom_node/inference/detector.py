"""MONAI's detectors, which take the place of the inferer in a detection bundle."""

from __future__ import annotations

import math
from typing import Any

from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from torch import Tensor, nn


class DetectorInferer:
    """Runs a detector: boxes, labels and scores of each image of a batch.

    The detector's sliding window is used for images that are larger than it.
    """

    def __init__(self, detector: RetinaNetDetector) -> None:
        self.detector = detector.eval()

    def __call__(self, inputs: Tensor, network: nn.Module) -> Any:
        """Return a dict for each image.

        Args:
            inputs: [N, C, ...].
            network: What the detector asks; the one that has the weights.
        """
        self.detector.network = network
        window = getattr(self.detector.inferer, "roi_size", None)
        larger = window is not None and inputs[0, 0].numel() >= math.prod(window)
        return self.detector(inputs, use_inferer=larger)
