"""Pipelines on disk: MONAI bundles with `configs/dicom.yaml`, their weights and the manifest.

Imports neither torch nor MONAI: routing and the command line need only what is written here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from dicom_node.errors import PipelineError
from dicom_node.inference.spec_check import contradictions
from dicom_node.model.codes import Code
from dicom_node.model.conditions import Strict
from dicom_node.model.findings import Algorithm
from dicom_node.model.identifiers import derived_uid
from dicom_node.model.pipeline import PipelineSpec

_HOME: Final = Path(__file__).resolve().parents[2]
BUILT_IN: Final = _HOME / "pipelines"
WEIGHTS: Final = _HOME / "weights"
WEIGHT_FORMS: Final = (".safetensors", ".pt", ".pth", ".ts")
FILL_IN: Final = "FILL IN"
"""Marks what `pipelines add` cannot know."""

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


_ENTRIES: Final = TypeAdapter(dict[str, WeightsEntry])


@dataclass(frozen=True, slots=True)
class Bundle:
    """A pipeline: its folder, its `dicom.yaml`, its weights.

    Attributes:
        version: Of the weights, as the manifest says; of the bundle where no manifest names them.
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
    def unfilled(self) -> tuple[str, ...]:
        """The keys of `dicom.yaml` that a person has yet to fill in."""
        return tuple(unfilled(self.spec.model_dump(mode="json")))

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
        self.read_weights()

    def read_weights(self) -> bytes:
        """Return the weights file, whose hash is the manifest's.

        Raises:
            PipelineError: They are missing, or others.
        """
        try:
            content = self.weights.read_bytes()
        except OSError as error:
            raise PipelineError(
                f"pipeline {self.name}",
                f"its weights {self.weights} cannot be read: {error.strerror}",
                "restore the file, or name another under `pipelines:` in node.yaml",
            ) from None
        if hashlib.sha256(content).hexdigest() != self.weights_sha256:
            raise PipelineError(
                f"pipeline {self.name}",
                f"its weights {self.weights} are not the ones of the manifest (SHA-256 differs)",
                "restore the file, or correct the manifest if the change is meant",
            )
        return content

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
        PipelineError: A pipeline's files are wrong, or cannot be read.
    """
    found: dict[str, Bundle] = {}
    for folder in [*folders, BUILT_IN]:
        with _told(folder):
            if not folder.is_dir():
                raise PipelineError(
                    str(folder), "there is no such folder", "correct `pipelines_path` in node.yaml"
                )
            for candidate in sorted(folder.iterdir()):
                # one that begins with a dot is on its way here
                if candidate.name.startswith(".") or candidate.name in found:
                    continue
                if (candidate / "configs" / "dicom.yaml").is_file():
                    own = (weights or {}).get(candidate.name)
                    found[candidate.name] = load_bundle(candidate, own)
    return found


def load_bundle(folder: Path, own_weights: Path | None = None) -> Bundle:
    """Read one pipeline's `dicom.yaml`, `metadata.json` and weights entry.

    A bundle outside the built-in folder may bring its own `weights/manifest.yaml`, or keep its
    weights as MONAI bundles do, in `models/model.safetensors`.

    Raises:
        PipelineError: One of them is wrong, or cannot be read.
    """
    with _told(folder):
        return _load_bundle(folder, own_weights)


def _load_bundle(folder: Path, own_weights: Path | None) -> Bundle:
    name = folder.name
    spec = _spec(folder)
    metadata = _metadata(folder)
    version = str(metadata.get("version", "0"))
    if own_weights is not None:
        # installed weights have their version and hash beside them
        entry = _manifest(entry_file(own_weights)).get(name)
        if entry is not None:
            return Bundle(
                name, folder, spec, entry.version, own_weights, entry.sha256, entry.demonstration
            )
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
    # a pipeline that a site has yet to train is listed, and refused when it is to run
    model = model_file(folder)
    sha = _sha256(model) if model.is_file() else ""
    return Bundle(name, folder, spec, version, model, sha, True)


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Name the file that the system refuses: one that we may not read, a name too long."""
    try:
        yield
    except OSError as error:
        raise PipelineError(
            str(error.filename or folder),
            f"it cannot be read: {error.strerror}",
            "let the node's user read it, or name another in node.yaml",
        ) from None


def model_file(folder: Path) -> Path:
    """Return a bundle's weights: what carries no code is preferred to what may.

    `models/model` in one of MONAI's forms, or else the only file of such a form.
    """
    models = folder / "models"
    for suffix in WEIGHT_FORMS:
        if (models / f"model{suffix}").is_file():
            return models / f"model{suffix}"
    found = sorted(models.glob("*")) if models.is_dir() else []
    others = [file for file in found if file.suffix in WEIGHT_FORMS]
    return others[0] if len(others) == 1 else models / "model.safetensors"


def unfilled(value: Any, place: str = "") -> Iterator[str]:
    """Yield the places of a `dicom.yaml` that `pipelines add` left to a person."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from unfilled(inner, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from unfilled(inner, f"{place}.{number}")
    elif isinstance(value, str) and FILL_IN in value:
        yield place


def weights_entry(bundle: Bundle) -> WeightsEntry | None:
    """Return what a manifest says of a bundle's weights; None: none names them.

    Raises:
        PipelineError: The manifest is wrong.
    """
    beside = _manifest(entry_file(bundle.weights)).get(bundle.name)
    if beside is not None:
        return beside
    for home in (bundle.folder / "weights", WEIGHTS):
        entry = _manifest(home / "manifest.yaml").get(bundle.name)
        if entry is not None and home / entry.file == bundle.weights:
            return entry
    return None


def entry_file(weights: Path) -> Path:
    """Return where the manifest entry of installed weights stands: beside them."""
    return weights.with_name(f"{weights.name}.yaml")


def _spec(folder: Path) -> PipelineSpec:
    file = folder / "configs" / "dicom.yaml"
    try:
        spec = PipelineSpec.model_validate(_yaml(file))
    except ValidationError as error:
        raise _invalid(file, error) from None
    for key, why in contradictions(spec):
        raise PipelineError(f"{file}: {key}", why, "correct the key")
    return spec


def _invalid(file: Path, error: ValidationError) -> PipelineError:
    """Name the first mistake of a file, with its key and value."""
    first, *others = error.errors()
    key = ".".join(map(str, first["loc"])) or "the file"
    value = "" if first["type"] == "missing" else f" (value: {str(first['input'])[:60]!r})"
    more = f", and {len(others)} more" if others else ""
    return PipelineError(f"{file}: {key}", f"{first['msg']}{value}", f"correct the key{more}")


def _metadata(folder: Path) -> Mapping[str, Any]:
    file = folder / "configs" / "metadata.json"
    try:
        loaded = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PipelineError(str(file), str(error), "every MONAI bundle has this file") from None
    if not isinstance(loaded, dict):
        raise PipelineError(str(file), "it is no JSON object", "every MONAI bundle has this file")
    return loaded


def _manifest(file: Path) -> Mapping[str, WeightsEntry]:
    if not file.is_file():
        return {}
    try:
        return _ENTRIES.validate_python(_yaml(file) or {})
    except ValidationError as error:
        raise _invalid(file, error) from None


def _yaml(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise PipelineError(str(file), f"it is no YAML: {why}", "correct the file") from None


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
