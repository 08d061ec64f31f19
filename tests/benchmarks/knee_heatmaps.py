"""Whether the knee pipeline's heatmaps look at the joint, and at what the network has learned.

    python -m tests.benchmarks.knee_heatmaps --data DIR [--images 200]

DIR holds `labels.csv` and the joint crops. Printed are, by the grade that was answered: the median
share of the map's energy in the band around the joint line (a fifth of the crop to either side; a
map without any preference has the band's share of the area there) and in the part between the
outer borders of the bones; and how much the map resembles that of the same network with random
weights (Spearman's correlation; Adebayo et al., NeurIPS 2018, arXiv 1810.03292): a map that does
would show edges of the image, not what was learned.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import spearmanr
from torch import nn

from dicom_node.inference.bundles import BUILT_IN, load_bundle
from dicom_node.inference.parts import build_parts
from dicom_node.inference.saliency import Explainer
from tests.benchmarks.knee_crops import asked_crops

Map = npt.NDArray[np.float32]

PIPELINE: Final = "knee_kl_ensemble"
JOINT_LINE: Final = 0.59
"""Of the crop's height, as the crops are framed (pipelines/knee_kl_ensemble/docs/README.md)."""
BAND: Final = 0.2
"""To either side of the joint line, of the crop's height."""
PLATEAU: Final = 0.83
"""Of the crop's width."""


def share_in_band(heat: Map) -> float:
    """Return the share of a map's energy around the joint line; 0 of an empty map."""
    rows = (np.arange(heat.shape[0]) + 0.5) / heat.shape[0]
    return _share(heat, (np.abs(rows - JOINT_LINE) <= BAND)[:, None])


def share_on_bone(heat: Map) -> float:
    """Return the share of a map's energy that is no further out than the bones are wide."""
    columns = (np.arange(heat.shape[1]) + 0.5) / heat.shape[1]
    return _share(heat, (np.abs(columns - 0.5) <= PLATEAU / 2)[None])


def randomised(network: nn.Module) -> None:
    """Give every layer of a network the weights that it has before training."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            module.reset_parameters()


def _share(heat: Map, inside: npt.NDArray[np.bool_]) -> float:
    total = float(heat.sum())
    return float((heat * inside).sum()) / total if total else 0.0


def main() -> int:
    knees = asked_crops(__doc__)
    bundle = load_bundle(BUILT_IN / PIPELINE)
    learned, random = (build_parts(bundle, torch.device("cpu")).network for _ in range(2))
    randomised(random)
    saliency = bundle.spec.saliency
    if saliency is None:
        raise SystemExit(f"{PIPELINE} has no saliency")
    explainer, random_explainer = (Explainer(one, saliency.layer) for one in (learned, random))
    rows: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for pixels in knees.images:
        image = torch.from_numpy(pixels)[None, None].float() / 255
        with torch.inference_mode():
            grade = int(learned(image).argmax())
        heat, other = (one(image, grade) for one in (explainer, random_explainer))
        alike = float(spearmanr(heat[::8, ::8].ravel(), other[::8, ::8].ravel()).statistic)
        row = (share_in_band(heat), share_on_bone(heat), alike)
        rows[f"KL {grade}"].append(row)
        rows["all"].append(row)
    print(f"a map without preference: band {2 * BAND:.2f}, bone {PLATEAU:.2f}\n")
    print("| answer | knees | in the joint's band | on the bones | like random weights |")
    print("|---|---|---|---|---|")
    for name, values in sorted(rows.items()):
        band, bone, alike = np.nanmedian(np.array(values), axis=0)
        print(f"| {name} | {len(values)} | {band:.2f} | {bone:.2f} | {alike:.2f} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
