"""Pipelines on disk: MONAI bundles with `configs/dicom.yaml`, their weights and the manifest.

Imports neither torch nor MONAI: routing and the command line need only what is written here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import Field, ValidationError

from dicom_node.errors import PipelineError
from dicom_node.model.codes import Code
from dicom_node.model.conditions import Strict
from dicom_node.model.findings import Algorithm
from dicom_node.model.identifiers import derived_uid
from dicom_node.model.pipeline import PipelineSpec

_HOME: Final = Path(__file__).resolve().parents[2]
BUILT_IN: Final = _HOME / "pipelines"
WEIGHTS: Final = _HOME / "weights"

_ARTIFICIAL_INTELLIGENCE: Final = Code("123110", "DCM", "Artificial Intelligence")
"""Algorithm family (CID 7162)."""


class WeightsEntry(Strict):
    """One pipeline's entry in `weights/manifest.yaml`; `file` is relative to the manifest."""

    version: str
    file: str
    sha256: str
    demonstration: bool = True
    card: str | None = None
    data: list[Any] = Field(default_factory=list)
    figures: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A pipeline: its folder, its `dicom.yaml`, its weights.

    Attributes:
        weights_sha256: As the manifest says; of a site's own weights, as they are.
        demonstration: True when the manifest says so; a site's own weights are not.
    """

    name: str
    folder: Path
    spec: PipelineSpec
    version: str
    weights: Path
    weights_sha256: str
    demonstration: bool

    @property
    def inference_config(self) -> Path:
        """The bundle's inference configuration, YAML or JSON."""
        for suffix in (".yaml", ".yml", ".json"):
            file = self.folder / "configs" / f"inference{suffix}"
            if file.is_file():
                return file
        raise PipelineError(
            f"pipeline {self.name}",
            "configs/ has no inference.yaml or inference.json",
            "add the bundle's inference configuration",
        )

    def verify_weights(self) -> None:
        """Check that the weights are the ones of the manifest.

        Raises:
            PipelineError: They are missing, or others.
        """
        if not self.weights.is_file():
            raise PipelineError(
                f"pipeline {self.name}",
                f"its weights {self.weights} are not there",
                "restore the file, or name another under `pipelines:` in node.yaml",
            )
        if _sha256(self.weights) != self.weights_sha256:
            raise PipelineError(
                f"pipeline {self.name}",
                f"its weights {self.weights} are not the ones of the manifest (SHA-256 differs)",
                "restore the file, or correct the manifest if the change is meant",
            )

    def algorithm(self) -> Algorithm:
        """Return how this model is named in every result (IHE AIR Table 6.5.3.1-1)."""
        return Algorithm(
            name=self.name,
            title=self.spec.title,
            version=self.version,
            weights_sha256=self.weights_sha256,
            device_uid=derived_uid("device", self.name, self.version, self.weights_sha256),
            manufacturer=self.spec.manufacturer,
            demonstration=self.demonstration,
            family=_ARTIFICIAL_INTELLIGENCE,
        )


def find_bundles(
    folders: Sequence[Path] = (), *, weights: Mapping[str, Path] | None = None
) -> dict[str, Bundle]:
    """Find the pipelines in a site's own folders and the built-in ones; a site's own come first.

    Args:
        weights: A site's own weights by pipeline name.

    Raises:
        PipelineError: A pipeline's files are wrong.
    """
    found: dict[str, Bundle] = {}
    for folder in [*folders, BUILT_IN]:
        if not folder.is_dir():
            raise PipelineError(
                str(folder), "there is no such folder", "correct `pipelines_path` in node.yaml"
            )
        for candidate in sorted(folder.iterdir()):
            if (candidate / "configs" / "dicom.yaml").is_file() and candidate.name not in found:
                own = (weights or {}).get(candidate.name)
                found[candidate.name] = load_bundle(candidate, own)
    return found


def load_bundle(folder: Path, own_weights: Path | None = None) -> Bundle:
    """Read one pipeline's `dicom.yaml`, `metadata.json` and weights entry.

    A bundle outside the built-in folder may bring its own `weights/manifest.yaml`, or keep its
    weights as MONAI bundles do, in `models/model.safetensors`.

    Raises:
        PipelineError: One of them is wrong.
    """
    name = folder.name
    spec = _spec(folder)
    metadata = _metadata(folder)
    version = str(metadata.get("version", "0"))
    if own_weights is not None:
        sha = _sha256(own_weights) if own_weights.is_file() else ""
        return Bundle(name, folder, spec, f"{version}+site", own_weights, sha, False)
    for home in (folder / "weights", WEIGHTS):
        entry = _manifest(home / "manifest.yaml").get(name)
        if entry is not None:
            return Bundle(
                name,
                folder,
                spec,
                entry.version,
                home / entry.file,
                entry.sha256,
                entry.demonstration,
            )
    model = folder / "models" / "model.safetensors"
    if model.is_file():
        return Bundle(name, folder, spec, version, model, _sha256(model), True)
    raise PipelineError(
        f"pipeline {name}",
        "no weights are known for it",
        "add an entry to weights/manifest.yaml, or `pipelines: {NAME: {weights: FILE}}`",
    )


def _spec(folder: Path) -> PipelineSpec:
    file = folder / "configs" / "dicom.yaml"
    try:
        return PipelineSpec.model_validate(_yaml(file))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise PipelineError(
            f"{file}: {key}",
            str(first["msg"]),
            f"correct it ({len(error.errors())} mistakes in all)",
        ) from None


def _metadata(folder: Path) -> Mapping[str, Any]:
    file = folder / "configs" / "metadata.json"
    try:
        loaded = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise PipelineError(str(file), str(error), "every MONAI bundle has this file") from None
    return dict(loaded)


def _manifest(file: Path) -> Mapping[str, WeightsEntry]:
    if not file.is_file():
        return {}
    try:
        return {
            name: WeightsEntry.model_validate(entry) for name, entry in (_yaml(file) or {}).items()
        }
    except (ValidationError, AttributeError) as error:
        raise PipelineError(str(file), str(error).splitlines()[0], "correct the manifest") from None


def _yaml(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise PipelineError(str(file), str(error).splitlines()[0], "correct the file") from None


@lru_cache(maxsize=64)
def _sha256_of(path: str, size: int, modified: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256(file: Path) -> str:
    stat = file.stat()
    return _sha256_of(str(file), stat.st_size, stat.st_mtime_ns)
