"""Shortcut controls: what can be told of the label without looking at the joint."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dicom_node.training.figures import auc
from pipelines.networks.knee_osteoporosis import BORDER, framed
from pipelines.osteoporosis.crossval import fold_of
from pipelines.osteoporosis.data import Joints
from pipelines.osteoporosis.figures import auc_interval

Values = npt.NDArray[np.float64]

RING: Final = 0.25
"""Where the blank begins when the joint is blanked out: a ring inside the border is left."""
_COMPONENTS: Final = 20


def controls(joints: Joints, folds: int, seed: int) -> dict[str, dict[str, Any]]:
    """Return the cross-validated AUC of logistic regression on each of them.

    The first two look at the radiograph's size, which the networks never see. The others look at
    the crop: its exposure, its border as it is and as the networks get it, and what they get when
    the joint is blanked out, which still shows the outer parts of both bones.
    """
    height, width = joints.shapes[:, 0].astype(float), joints.shapes[:, 1].astype(float)
    pixels = joints.images.astype(np.float64) / 255
    seen = framed(torch.from_numpy(pixels).float()[:, None])[:, 0].double().numpy()
    border = _ring(pixels.shape[-1], 0.0, BORDER)
    ring = _ring(pixels.shape[-1], BORDER, RING)
    inputs = {
        "height of the radiograph": height[:, None],
        "aspect ratio of the radiograph": (height / np.maximum(width, 1))[:, None],
        "mean and spread of the crop, which the network does not see": np.stack(
            [pixels.mean((1, 2)), pixels.std((1, 2))], 1
        ),
        "border of the crop as it is": pixels[:, border],
        "border of the crop as the network sees it": seen[:, border],
        "joint blanked out: the ring around it as the network sees it": seen[:, ring],
    }
    return {name: _measured(joints, values, folds, seed) for name, values in inputs.items()}


def _measured(joints: Joints, values: Values, folds: int, seed: int) -> dict[str, Any]:
    place = fold_of(joints, folds, seed)
    score = np.zeros(len(joints))
    for fold in range(folds):
        held = place == fold
        if values[~held].std() < 1e-9:
            continue  # nothing is to be seen: every image gets the same score
        steps: list[Any] = [StandardScaler()]
        if values.shape[1] > _COMPONENTS:
            steps.append(PCA(min(_COMPONENTS, int((~held).sum()) - 1), random_state=0))
        model = make_pipeline(*steps, LogisticRegression(C=0.1, max_iter=1000))
        model.fit(values[~held], joints.two[~held])
        score[held] = model.predict_proba(values[held])[:, 1]
    positive = joints.two == 1
    return {"auc": auc(score, positive), "auc_95": auc_interval(score, positive, joints.groups)}


def _ring(side: int, outer: float, inner: float) -> npt.NDArray[np.bool_]:
    """Pixels whose distance from the border, in sides, is at least outer and less than inner."""
    place = (np.arange(side) + 0.5) / side
    border = np.minimum(place, 1 - place)
    distance = np.minimum(border[:, None], border[None, :])
    found: npt.NDArray[np.bool_] = (distance >= outer) & (distance < inner)
    return found
