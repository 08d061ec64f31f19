"""Tiny MONAI bundles, written to a folder as a site would have them."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save_file

from dicom_node.inference.trust import trust
from tests.unit.inference import tiny_parts

_HERE = tiny_parts.__name__


def _code(value: str, meaning: str, scheme: str = "99TEST") -> dict[str, str]:
    return {"value": value, "scheme": scheme, "meaning": meaning}


KNEE = _code("72696002", "Knee", "SCT")
PROCEDURE = _code("74016001", "Plain X-ray of knee", "SCT")

CLASSIFIER: dict[str, Any] = {
    "title": "Bright or dark",
    "procedure": PROCEDURE,
    "anatomy": KNEE,
    "input": {"kind": "radiograph", "when": {"modality": ["CR", "DX"]}},
    "outputs": [
        {
            "type": "classification",
            "key": "probabilities",
            "question": _code("brightness", "Brightness"),
            "labels": [
                {"code": _code("dark", "Dark"), "text": "dark"},
                {"code": _code("bright", "Bright"), "text": "bright"},
            ],
            "set_key": "set",
            "coverage": 0.9,
        }
    ],
    "saliency": {"key": "probabilities", "layer": "features"},
    "statement": "{subject}: {label} ({probability}; possible: {set}).",
    "series_number": 9700,
}

REGRESSION: dict[str, Any] = {
    **{k: CLASSIFIER[k] for k in ("title", "procedure", "anatomy", "input", "series_number")},
    "outputs": [
        {
            "type": "measurement",
            "key": "value",
            "concept": _code("value", "Brightest value"),
            "unit": _code("1", "no units", "UCUM"),
            "uncertainty_key": "value_sd",
            "plausible_range": [-1000, 1000],
        },
        {"type": "region", "key": "mask", "label": _code("spot", "Bright spot")},
    ],
    "saliency": {"key": "value", "layer": "features", "method": "gradcam++"},
    "statement": "{subject}: brightest value {value:.2f} (± {value_sd}).",
}

VOLUME: dict[str, Any] = {
    "title": "Density",
    "procedure": PROCEDURE,
    "anatomy": _code("122496007", "Lumbar spine", "SCT"),
    "input": {"kind": "volume", "when": {"modality": "CT"}},
    "outputs": [
        {
            "type": "measurement",
            "key": "density",
            "concept": _code("density", "Density"),
            "unit": _code("[hnsf'U]", "Hounsfield unit", "UCUM"),
        },
        {"type": "region", "key": "mask", "label": _code("roi", "Region")},
    ],
    "summary": {
        "name": "L1-L3",
        "over": "density",
        "at_least": 2,
        "concept": _code("density", "Density"),
        "unit": _code("[hnsf'U]", "Hounsfield unit", "UCUM"),
        "derivation": _code("373098007", "Mean", "SCT"),
        "thresholds": {
            "question": _code("class", "Density class"),
            "source": "these tests",
            "below": [[100, {"code": _code("low", "Low"), "text": "low"}]],
            "last": {"code": _code("normal", "Normal"), "text": "normal"},
        },
    },
    "statement": "{subject}: {density} HU.",
    "series_number": 9710,
}


def parts(**names: Any) -> dict[str, Any]:
    """An inference.yaml; parts by the name of a class or function of `tiny_parts`."""
    config: dict[str, Any] = {
        "network_def": {"_target_": f"{_HERE}.BrightSpot"},
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                # a reader whose package is not installed: the node reads by itself
                {"_target_": "LoadImaged", "keys": "image", "reader": "NrrdReader"},
                {"_target_": "EnsureChannelFirstd", "keys": "image"},
                {"_target_": "Resized", "keys": "image", "spatial_size": [32, 32]},
            ],
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": f"{_HERE}.Probabilities"}],
        },
    }
    for name, value in names.items():
        if value is None:
            config.pop(name)
        elif name in ("locator", "gate"):
            config[name] = f"$__import__('{_HERE}', fromlist=['x']).{value}"
        elif name in ("preprocessing", "postprocessing"):
            config[name] = {
                "_target_": "Compose",
                "transforms": [{"_target_": f"{_HERE}.{value}"}],
            }
        else:
            config[name] = value
    return config


def write_bundle(
    folder: Path,
    name: str = "tiny",
    *,
    spec: Mapping[str, Any] = CLASSIFIER,
    inference: Mapping[str, Any] | None = None,
    units: int = 2,
    **changes: Any,
) -> Path:
    """Write a bundle with weights and their manifest; `changes` replace keys of dicom.yaml."""
    bundle = folder / name
    configs = bundle / "configs"
    configs.mkdir(parents=True)
    written = {**copy.deepcopy(dict(spec)), **changes}
    (configs / "dicom.yaml").write_text(yaml.safe_dump(written, sort_keys=False))
    (configs / "metadata.json").write_text(json.dumps({"version": "1.2.3"}))
    (configs / "inference.yaml").write_text(yaml.safe_dump(dict(inference or parts())))
    home = bundle / "weights"
    home.mkdir()
    save_file(tiny_parts.weights(units), home / "1.2.3.safetensors")
    digest = hashlib.sha256((home / "1.2.3.safetensors").read_bytes()).hexdigest()
    entry = {"version": "1.2.3", "file": "1.2.3.safetensors", "sha256": digest}
    (home / "manifest.yaml").write_text(yaml.safe_dump({name: entry}))
    trust(bundle)
    return bundle
