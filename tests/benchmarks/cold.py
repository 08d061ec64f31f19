"""What `python -m monai.bundle run` does of a bundle in `inference.py`, in a fresh process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydicom import dcmread
from safetensors.torch import load_file

from dicom_node.model.findings import Side
from dicom_node.model.targets import Target


def evaluate(
    network: Any, preprocessing: Any, inferer: Any, postprocessing: Any, folder: str, weights: str
) -> None:
    """Load weights and images, and predict; MONAI's LoadImaged reads the files."""
    network.load_state_dict({k: v.float() for k, v in load_file(weights).items()})
    network.eval()
    files = sorted(Path(folder).glob("*.dcm"))
    several = len(files) > 1
    header = dcmread(files[0], stop_before_pixels=True)
    data = {
        "image": folder if several else str(files[0]),
        "target": Target("whole", Side.RIGHT),
        "attributes": {"Modality": str(header.Modality)},
    }
    if several:
        # the volume's own preprocessing wants the vertebrae that the node's locator finds
        from monai.transforms import LoadImaged

        volume = LoadImaged(keys="image", ensure_channel_first=True)(data)["image"]
        with torch.inference_mode():
            network(torch.as_tensor(volume)[None, :, :80, :80, 0])
        return
    data = preprocessing(data)
    with torch.inference_mode():
        prediction = inferer(torch.as_tensor(data["image"])[None], network)
    postprocessing({**data, "pred": prediction[0]})
