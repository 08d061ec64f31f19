"""A `dicom.yaml` proposed from what a bundle says of itself; a person fills in the rest.

Read are `metadata.json` (its `network_data_format`) and the inference configuration, as text:
nothing of the bundle is built or run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from pydicom.sr.codedict import codes

from dicom_node.errors import PipelineError
from dicom_node.inference.bundles import FILL_IN

_MODALITIES: Final = (
    (("mammo", "mg"), ["MG"]),
    (("ct", "computed"), ["CT"]),
    (("mr", "mri", "magnetic"), ["MR"]),
    (("x-ray", "xray", "x ray", "cr", "dx", "radiograph", "cxr"), ["CR", "DX"]),
    (("us", "ultrasound"), ["US"]),
    (("pt", "pet"), ["PT"]),
)
_BACKGROUND: Final = frozenset({"background", "bg", "other"})
_SERIES_NUMBER: Final = 9800
_HEAD: Final = """\
# What makes this bundle a pipeline. Proposed from metadata.json and inference.{suffix}:
# check every line, and replace each {fill_in} ({count} places).
# Codes: look them up in SNOMED CT (SCT), DCM, LOINC (LN), UCUM; your own have a scheme 99...
"""


class _Plain(yaml.SafeDumper):
    """Writes what occurs twice twice, without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def propose(folder: Path, name: str) -> str:
    """Return the text of a dicom.yaml for a bundle.

    Raises:
        PipelineError: The metadata or the configuration cannot be read.
    """
    metadata = _read(folder / "configs" / "metadata.json")
    file = next(iter(sorted((folder / "configs").glob("inference.*"))), None)
    if file is None:
        raise PipelineError(
            f"bundle {name}",
            "configs/ has no inference.yaml or inference.json",
            "add the bundle's inference configuration",
        )
    config = _read(file)
    formats = _mapping(metadata.get("network_data_format"))
    image = _first(formats.get("inputs"))
    volume = _dimensions(image, config) == 3
    output, statement, objects = _output(_first(formats.get("outputs")), config, volume)
    anatomy = output["segments"][0]["label"] if "segments" in output else _code("body part")
    selector: dict[str, Any] = {
        "kind": "volume" if volume else "radiograph",
        "when": {"modality": _modality(str(image.get("modality", "")))},
    }
    channels = image.get("num_channels")
    if isinstance(channels, int) and channels > 1:
        selector["channels"] = channels
    spec = {
        "title": str(metadata.get("name") or metadata.get("task") or name),
        "manufacturer": str(metadata.get("authors") or FILL_IN)[:64],
        "procedure": _marked("imaging procedure"),
        "anatomy": anatomy,
        "input": selector,
        "outputs": [output],
        "statement": statement,
        "series_number": _SERIES_NUMBER,
        "objects": objects,
    }
    text = yaml.dump(spec, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=100)
    head = _HEAD.format(suffix=file.suffix[1:], fill_in=FILL_IN, count=text.count(FILL_IN))
    return head + "".join(f"# {note}\n" for note in _notes(metadata, config)) + text


def _output(
    told: Mapping[str, Any], config: Mapping[str, Any], volume: bool
) -> tuple[dict[str, Any], str, list[str]]:
    """Propose the output, the statement and the result objects."""
    steps = dict(_transforms(config.get("postprocessing")))
    form = f"{told.get('type', '')} {told.get('format', '')}".lower()
    classes = _classes(told)
    if "detector" in config or "object" in form:
        return (
            _detection(steps, classes, volume),
            "{subject}: score {score:.0f} %.",
            ["presentation_state"],
        )
    if "segmentation" in form:
        segments = [
            {"value": value, "name": text, "label": _code(text)}
            for value, text in classes.items()
            if text.lower() not in _BACKGROUND
        ]
        output = {"type": "segmentation", "key": "pred", "segments": segments or [_nameless(1)]}
        return output, "{subject}: {volume:.1f} mL." if volume else "{subject}.", ["segmentation"]
    if len(classes) > 1 or any(word in form for word in ("label", "class", "probabilit")):
        return _classification(steps, classes), "{subject}: {label} ({probability}).", []
    measurement = {
        "type": "measurement",
        "key": "network_output",
        "concept": _code("what is measured"),
        "unit": _code("unit"),
        "method": "the network's number",
    }
    return measurement, "{subject}: {network_output}.", []


def _classification(
    steps: Mapping[str, Mapping[str, Any]], classes: Mapping[int, str]
) -> dict[str, Any]:
    sigmoid = any(name.startswith("Activations") and t.get("sigmoid") for name, t in steps.items())
    return {
        "type": "classification",
        "key": "network_output",
        "activation": "sigmoid" if sigmoid else "softmax",
        "calibrated": False,
        "question": _code("question"),
        "labels": [
            {"code": _code(text, f"{FILL_IN} {value}"), "text": text}
            for value, text in (classes or {0: f"{FILL_IN} 0", 1: f"{FILL_IN} 1"}).items()
        ],
    }


def _detection(
    steps: Mapping[str, Mapping[str, Any]], classes: Mapping[int, str], volume: bool
) -> dict[str, Any]:
    mode, frame = ("xyzxyz" if volume else "xyxy"), "image"
    for name, step in steps.items():
        if name.startswith("ConvertBoxMode"):
            mode = str(step.get("dst_mode", mode))
        elif name.startswith("AffineBoxToWorldCoordinate"):
            frame = "lps" if step.get("affine_lps_to_ras") else "ras"
    kinds = [
        {
            "value": value,
            "name": text,
            "label": _code(text),
            "category": {
                "value": "49755003",
                "scheme": "SCT",
                "meaning": "Morphologically Abnormal Structure",
            },
        }
        for value, text in classes.items()
    ]
    return {
        "type": "detection",
        "key": "box",
        "scores_key": "label_scores",
        "labels_key": "label",
        "mode": mode,
        "frame": frame,
        "threshold": 0.5,
        "findings": kinds or [_nameless(0)],
    }


def _nameless(value: int) -> dict[str, Any]:
    return {"value": value, "name": FILL_IN, "label": _code(FILL_IN)}


def _code(meaning: str, value: str = FILL_IN) -> dict[str, str]:
    """A code by its name in pydicom's dictionary of DICOM's own context groups, or marked."""
    keyword = "".join(word.capitalize() for word in meaning.replace("_", " ").split())
    found = getattr(codes.SCT, keyword, None) if keyword.isidentifier() else None
    if found is not None:
        return {"value": found.value, "scheme": "SCT", "meaning": found.meaning}
    return _marked(meaning, value)


def _marked(meaning: str, value: str = FILL_IN) -> dict[str, str]:
    said = meaning if FILL_IN in meaning else f"{FILL_IN}: {meaning}"
    return {"value": value, "scheme": FILL_IN, "meaning": said}


def _modality(said: str) -> list[str]:
    words = said.lower().replace("_", " ").replace("-", " ").split()
    for names, modalities in _MODALITIES:
        if any(name in words or (len(name) > 3 and name in said.lower()) for name in names):
            return modalities
    return [FILL_IN]


def _classes(told: Mapping[str, Any]) -> dict[int, str]:
    return {
        int(key): str(text)
        for key, text in _mapping(told.get("channel_def")).items()
        if str(key).isdigit()
    }


def _dimensions(image: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    shape = image.get("spatial_shape")
    told = _mapping(config.get("network_def")).get("spatial_dims")
    return told if isinstance(told, int) else len(shape) if isinstance(shape, list) else 2


def _transforms(compose: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for step in _mapping(compose).get("transforms") or []:
        if isinstance(step, Mapping) and isinstance(step.get("_target_"), str):
            yield step["_target_"].rpartition(".")[2], step


def _notes(metadata: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    for key in ("image_classes", "pred_classes", "intended_use"):
        if metadata.get(key):
            yield f"{key}: {' '.join(str(metadata[key]).split())[:110]}"
    for name, step in _transforms(config.get("preprocessing")):
        if name.startswith("Spacing"):
            yield f"the network works at {step.get('pixdim')} mm; say in `when` what is too coarse"


def _first(named: Any) -> Mapping[str, Any]:
    return _mapping(next(iter(_mapping(named).values()), None))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _read(file: Path) -> Mapping[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
        loaded = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise PipelineError(
            f"{file.parent.name}/{file.name}",
            f"it cannot be read: {' '.join(str(error).split())[:200]}",
            "correct the file",
        ) from None
    if not isinstance(loaded, Mapping):
        raise PipelineError(
            f"{file.parent.name}/{file.name}", "it holds no keys", "correct the file"
        )
    return loaded
