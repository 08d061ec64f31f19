"""Bundles as the Model Zoo lays them out, with small networks whose answer is known.

Layout and configuration style are the Zoo's: JSON, `@` and `$` references, the data set, loaders,
savers, handlers and evaluator that MONAI's own runner uses. None has a dicom.yaml.
"""

from __future__ import annotations

from pathlib import Path

import torch
from monai.networks.nets import Classifier
from torch import Tensor, nn

from tests.unit.inference.zoo_layout import (
    CHANNEL_FIRST,
    LOAD,
    compose,
    disc,
    filled_in,
    fitted,
    format_of,
    write,
)

__all__ = ["classification", "detection", "disc", "filled_in", "segmentation", "torchscript"]

BRIGHT_HU, AROUND_HU = 150, -20
"""Of the phantoms; the segmentation's network decides half-way."""


def segmentation(folder: Path, name: str = "sphere_ct_segmentation") -> Path:
    """3-D, sliding window: what is brighter than the middle of the window is the spleen."""
    low, high = -57.0, 164.0
    middle = ((BRIGHT_HU + AROUND_HU) / 2 - low) / (high - low)
    weight = torch.zeros(2, 1, 1, 1, 1)
    weight[1] = 20
    inference = {
        "network_def": {
            "_target_": "torch.nn.Conv3d",
            "in_channels": 1,
            "out_channels": 2,
            "kernel_size": 1,
        },
        "preprocessing": compose(
            LOAD,
            CHANNEL_FIRST,
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {
                "_target_": "Spacingd",
                "keys": "image",
                "pixdim": [1.5, 1.5, 2.0],
                "mode": "bilinear",
            },
            {
                "_target_": "ScaleIntensityRanged",
                "keys": "image",
                "a_min": low,
                "a_max": high,
                "b_min": 0,
                "b_max": 1,
                "clip": True,
            },
            {"_target_": "EnsureTyped", "keys": "image"},
        ),
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": [32, 32, 32],
            "sw_batch_size": 4,
            "overlap": 0.5,
        },
        "postprocessing": compose(
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {
                "_target_": "Invertd",
                "keys": "pred",
                "transform": "@preprocessing",
                "orig_keys": "image",
                "nearest_interp": False,
                "to_tensor": True,
            },
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"},
        ),
    }
    metadata = {
        "task": "Decathlon spleen segmentation",
        **format_of(
            {
                "type": "image",
                "format": "hounsfield",
                "modality": "CT",
                "num_channels": 1,
                "spatial_shape": [96, 96, 96],
            },
            {
                "type": "image",
                "format": "segmentation",
                "num_channels": 2,
                "channel_def": {"0": "background", "1": "spleen"},
            },
        ),
    }
    weights = {"weight": weight, "bias": torch.tensor([0.0, -20 * middle])}
    return write(folder, name, metadata, inference, weights)


def classification(folder: Path, name: str = "density_classification") -> Path:
    """2-D, three channels: is the bright disc in the upper or in the lower half?"""
    shape = {"in_shape": [3, 32, 32], "classes": 2, "channels": [4, 8], "strides": [2, 2]}
    inference = {
        "network_def": {"_target_": "Classifier", **shape},
        "preprocessing": compose(
            LOAD,
            CHANNEL_FIRST,
            {"_target_": "ScaleIntensityd", "keys": "image", "minv": 0.0, "maxv": 1.0},
            {"_target_": "Resized", "keys": "image", "spatial_size": [32, 32]},
        ),
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": compose(
            {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
            {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
        ),
    }
    metadata = {
        "task": "Disc classification",
        **format_of(
            {
                "type": "image",
                "format": "magnitude",
                "modality": "X-ray",
                "num_channels": 3,
                "spatial_shape": [32, 32],
            },
            {
                "type": "image",
                "format": "labels",
                "num_channels": 2,
                "channel_def": {"0": "upper", "1": "lower"},
            },
        ),
    }
    return write(folder, name, metadata, inference, fitted(Classifier(**shape)))


NODULE_VOXELS = (8, 8, 4)
_NETWORK = '''\
"""The network of this bundle: how bright the neighbourhood of each anchor is."""

import torch


class Brightness(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.spatial_dims, self.num_classes, self.num_anchors = 3, 1, 1
        self.size_divisible = (8, 8, 4)
        self.cls_key, self.box_reg_key = "classification", "box_regression"
        self.mean = torch.nn.Conv3d(1, 1, (8, 8, 4), stride=(4, 4, 2), padding=(2, 2, 1))

    def forward(self, image):
        found = self.mean(image)
        offsets = torch.zeros(found.shape[0], 6, *found.shape[2:])
        return {self.cls_key: [found], self.box_reg_key: [offsets]}
'''


def detection(folder: Path, name: str = "nodule_ct_detection") -> Path:
    """3-D, MONAI's RetinaNetDetector around a network of the bundle's own."""
    inference = {
        "infer_patch_size": [512, 512, 192],
        "anchor_generator": {
            "_target_": "monai.apps.detection.utils.anchor_utils.AnchorGeneratorWithAnchorShape",
            "feature_map_scales": [1],
            "base_anchor_shapes": [list(NODULE_VOXELS)],
        },
        "network_def": {"_target_": "scripts.network.Brightness"},
        "detector": {
            "_target_": "RetinaNetDetector",
            "network": "@network",
            "anchor_generator": "@anchor_generator",
            "debug": False,
        },
        "detector_ops": [
            "$@detector.set_target_keys(box_key='box', label_key='label')",
            "$@detector.set_box_selector_parameters(score_thresh=0.02,"
            "topk_candidates_per_level=1000,nms_thresh=0.1,detections_per_img=300)",
            "$@detector.set_sliding_window_inferer(roi_size=@infer_patch_size,overlap=0.25,"
            "sw_batch_size=1,mode='constant',device='cpu')",
        ],
        "preprocessing": compose(
            LOAD,
            CHANNEL_FIRST,
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "image", "pixdim": [1.0, 1.0, 2.0]},
            {
                "_target_": "ScaleIntensityRanged",
                "keys": "image",
                "a_min": -1024.0,
                "a_max": 300.0,
                "b_min": 0.0,
                "b_max": 1.0,
                "clip": True,
            },
            {"_target_": "EnsureTyped", "keys": "image"},
        ),
        "inferer": {"_target_": "scripts.detection_inferer.Inferer", "detector": "@detector"},
        "postprocessing": compose(
            {
                "_target_": "ClipBoxToImaged",
                "box_keys": "box",
                "label_keys": "label",
                "box_ref_image_keys": "image",
                "remove_empty": True,
            },
            {
                "_target_": "AffineBoxToWorldCoordinated",
                "box_keys": "box",
                "box_ref_image_keys": "image",
                "image_meta_key_postfix": "meta_dict",
                "affine_lps_to_ras": True,
            },
            {
                "_target_": "ConvertBoxModed",
                "box_keys": "box",
                "src_mode": "xyzxyz",
                "dst_mode": "cccwhd",
            },
            {"_target_": "DeleteItemsd", "keys": ["image"]},
        ),
    }
    metadata = {
        "task": "CT lung nodule detection",
        **format_of(
            {
                "type": "image",
                "format": "magnitude",
                "modality": "CT",
                "num_channels": 1,
                "spatial_shape": ["16*n", "16*n", "8*n"],
            },
            {"type": "object", "format": "dict", "channel_def": {"0": "nodule"}},
        ),
    }
    # a quarter less than wholly bright is as good as not bright
    size = NODULE_VOXELS[0] * NODULE_VOXELS[1] * NODULE_VOXELS[2]
    weights = {
        "mean.weight": torch.full((1, 1, *NODULE_VOXELS), 40.0 / size),
        "mean.bias": torch.tensor([-30.0]),
    }
    bundle = write(folder, name, metadata, inference, weights)
    (bundle / "scripts").mkdir()
    (bundle / "scripts" / "__init__.py").write_text("")
    (bundle / "scripts" / "network.py").write_text(_NETWORK)
    return bundle


class _Mean(nn.Module):
    """Mean of the image in percent of white."""

    def forward(self, image: Tensor) -> Tensor:
        return 100 * image.mean(dim=[1, 2, 3])[:, None]


def torchscript(folder: Path, name: str = "brightness_regression") -> Path:
    """2-D regression as a TorchScript archive, `models/model.ts`."""
    inference = {
        "network_def": {"_target_": "a.package.of.the.Authors"},
        "preprocessing": compose(
            LOAD,
            CHANNEL_FIRST,
            {"_target_": "Resized", "keys": "image", "spatial_size": [64, 64]},
        ),
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": compose(
            {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"}
        ),
    }
    metadata = {
        "task": "Brightness",
        **format_of(
            {"type": "image", "modality": "DX", "num_channels": 1, "spatial_shape": [64, 64]},
            {"type": "value", "format": "regression", "num_channels": 1},
        ),
    }
    bundle = write(folder, name, metadata, inference, None)
    torch.jit.script(_Mean()).save(bundle / "models" / "model.ts")
    return bundle
