"""A bundle of a site's own devices: labels, classes and calibration written from its catalogue.

    python -m pipelines.hip_fixation_device.site_bundle --catalogue mine.yaml --out DIR \
        --temperature 0.61 --threshold 0.07 --most-not-ap 0.03 --farthest 15.3

`train --bundle DIR` calls it with what it has just fitted. The catalogue is the one source of the
device list: the labels in `configs/dicom.yaml` are made from it, of the bundle that ships too.
"""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from dicom_node.model import own_codes
from dicom_node.model.codes import OWN_SCHEME, Code
from pipelines.hip_fixation_device.data import CATALOGUE, labels_of

HERE: Final = Path(__file__).parent
_AGENCIES: Final = frozenset({"GS1", "HIBCC", "ICCBBA", "IFA"})
"""Issuing agencies of UDI-DI (Implementing Decision (EU) 2019/939)."""
_LONGEST: Final = 16


def label_entries(catalogue: Path = CATALOGUE) -> list[dict[str, Any]]:
    """Return the labels of `configs/dicom.yaml`: one a device, then no device, then other metal.

    Raises:
        ValueError: A device lacks a field, a code is used twice or too long, or the UDI's issuing
            agency is not one.
    """
    labels_of(catalogue)
    devices = yaml.safe_load(catalogue.read_text(encoding="utf-8"))["devices"]
    entries = [_device_entry(device, catalogue) for device in devices]
    entries += [
        {"code": _code(own_codes.NO_DEVICE), "text": "no internal fixation device"},
        {
            "code": _code(own_codes.NOT_IN_CATALOGUE),
            "text": "metal that is no device of the catalogue",
        },
    ]
    codes = [entry["code"]["value"] for entry in entries]
    if len(set(codes)) < len(codes):
        raise ValueError(f"{catalogue}: two devices have the same code: give each its own `code`")
    return entries


def write_bundle(
    folder: Path, catalogue: Path, calibration: Mapping[str, float], name: str = ""
) -> Path:
    """Copy the bundle that ships to `folder` and fit it to a catalogue and a calibration.

    Args:
        calibration: temperature, threshold, most_not_ap and farthest, as training prints them.
        name: What people will call the pipeline; absent: as it is.

    Returns:
        The bundle's folder, to be named under `pipelines_path` in `node.yaml`.

    Raises:
        FileExistsError: The folder is there already.
        ValueError: See `label_entries`.
    """
    entries = label_entries(catalogue)
    shutil.copytree(HERE / "configs", folder / "configs")
    shutil.copytree(HERE / "docs", folder / "docs")
    shutil.copy(catalogue, folder / "catalogue.yaml")
    dicom = folder / "configs" / "dicom.yaml"
    spec = yaml.safe_load(dicom.read_text(encoding="utf-8"))
    spec["outputs"][0]["labels"] = entries
    if name:
        spec["title"] = name
    dicom.write_text(yaml.safe_dump(spec, sort_keys=False, allow_unicode=True), encoding="utf-8")
    inference = folder / "configs" / "inference.yaml"
    parts = yaml.safe_load(inference.read_text(encoding="utf-8"))
    parts["network_def"]["classes"] = len(entries) + 1
    answer = parts["postprocessing"]["transforms"][0]
    for key in ("temperature", "threshold", "most_not_ap", "farthest"):
        answer[key] = float(calibration[key])
    inference.write_text(yaml.safe_dump(parts, sort_keys=False), encoding="utf-8")
    return folder


def _device_entry(device: Mapping[str, Any], catalogue: Path) -> dict[str, Any]:
    missing = [field for field in ("key", "manufacturer", "model", "kind") if not device.get(field)]
    if missing:
        raise ValueError(f"{catalogue}: a device has no {', '.join(missing)}: {dict(device)}")
    value = str(device.get("code") or "hfd-" + re.sub(r"[^a-z0-9]+", "-", device["key"].lower()))
    if len(value) > _LONGEST:
        raise ValueError(
            f"{catalogue}: the code {value} of {device['key']} is longer than {_LONGEST} "
            "characters: give it a shorter `code`"
        )
    model = str(device["model"])
    detail: list[list[Any]] = [
        [_code(own_codes.DEVICE_MANUFACTURER), str(device["manufacturer"])],
        [_code(own_codes.DEVICE_MODEL), model],
        [_code(own_codes.DEVICE_KIND), str(device["kind"])],
    ]
    udi = device.get("udi")
    if udi:
        agency, identifier = str(udi.get("agency", "")), str(udi.get("device_identifier", ""))
        if agency not in _AGENCIES or not identifier:
            raise ValueError(
                f"{catalogue}: the udi of {device['key']} needs an agency "
                f"({', '.join(sorted(_AGENCIES))}) and a device_identifier"
            )
        detail.append([_code(own_codes.DEVICE_IDENTIFIER), f"{agency} {identifier}"])
    return {
        "code": {"value": value, "scheme": OWN_SCHEME, "meaning": model},
        "text": model[0].lower() + model[1:]
        if device["manufacturer"] == "generic"
        else f"{device['manufacturer']} {model}",
        "detail": detail,
    }


def _code(code: Code) -> dict[str, str]:
    return {"value": code.value, "scheme": code.scheme, "meaning": code.meaning}


def main(arguments: list[str] | None = None) -> int:
    """Write the bundle and say how it is loaded."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--catalogue", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--title", default="")
    for key in ("temperature", "threshold", "most-not-ap", "farthest"):
        parser.add_argument(f"--{key}", type=float, required=True)
    options = parser.parse_args(arguments)
    calibration = {
        "temperature": options.temperature,
        "threshold": options.threshold,
        "most_not_ap": options.most_not_ap,
        "farthest": options.farthest,
    }
    print(write_bundle(options.out, options.catalogue, calibration, options.title))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
