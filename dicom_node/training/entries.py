"""A bundle's own trainer and evaluator, found by what its configuration names."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml
from monai.bundle import ConfigParser

from dicom_node.errors import ConfigError, NodeError, PipelineError
from dicom_node.inference.bundles import Bundle
from dicom_node.training.contract import Evaluator, Trainer

_OWN: Final = ("dicom_node", "pipelines")


def evaluator_of(bundle: Bundle) -> Evaluator:
    """Return the evaluator that `configs/evaluate.yaml` names.

    Raises:
        PipelineError: The bundle names none, or it cannot be made.
    """
    made: Evaluator = _entry(bundle, "evaluate", "evaluator")
    return made


def trainer_of(bundle: Bundle) -> Trainer:
    """Return the trainer that `configs/train.yaml` names.

    Raises:
        PipelineError: The bundle names none, or it cannot be made.
    """
    made: Trainer = _entry(bundle, "train", "trainer")
    return made


def settings_of(bundle: Bundle, changes: Sequence[str], seed: int | None) -> dict[str, Any]:
    """Return `configs/train.yaml` without its trainer, changed by `KEY=VALUE` texts.

    A key of a section is written `section::key`, as MONAI writes it. Values are YAML.

    Raises:
        ConfigError: A change is no KEY=VALUE, or names a key that the file does not have.
    """
    settings = dict(_config(bundle, "train"))
    settings.pop("trainer", None)
    for change in [*changes, *([] if seed is None else [f"seed={seed}"])]:
        key, equals, value = change.partition("=")
        *sections, last = key.split("::")
        place: Any = settings
        for section in sections:
            place = place.get(section) if isinstance(place, Mapping) else None
        if not equals or not isinstance(place, dict) or last not in place:
            near = difflib.get_close_matches(key, _keys(settings), 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(
                f"--set {change}",
                f"configs/train.yaml of {bundle.name} has no such key",
                f"{hint}keys: {', '.join(_keys(settings))}",
            )
        place[last] = yaml.safe_load(value)
    return settings


@contextmanager
def extras(doing: str) -> Iterator[None]:
    """Say which packages to install when one that only training needs is missing.

    Raises:
        NodeError: A package could not be imported.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in _OWN:
            raise
        raise NodeError(
            doing,
            f"the Python package {package or 'that it needs'} is not installed",
            "pip install 'dicom-node[train]'",
        ) from error


def _entry(bundle: Bundle, file: str, key: str) -> Any:
    entry = _config(bundle, file).get(key)
    target = entry.get("_target_") if isinstance(entry, Mapping) else None
    if not isinstance(target, str) or "." not in target:
        raise PipelineError(
            f"pipeline {bundle.name}",
            f"configs/{file}.yaml names no `{key}`",
            f"add `{key}: {{_target_: module.Name}}` (docs/add-a-pipeline.md)",
        )
    try:
        with extras(f"pipeline {bundle.name}: {key}"):
            importlib.import_module(target.rpartition(".")[0])
        parser = ConfigParser({key: entry})
        made = parser.get_parsed_content(key)
    except NodeError:
        raise
    except Exception as error:
        raise PipelineError(
            f"pipeline {bundle.name}: configs/{file}.yaml",
            f"`{key}` cannot be made: {type(error).__name__}: {error}",
            f"correct `{key}`",
        ) from error
    if not callable(made):
        raise PipelineError(
            f"pipeline {bundle.name}: configs/{file}.yaml",
            f"`{key}` cannot be called",
            "correct it",
        )
    return made


def _config(bundle: Bundle, name: str) -> Mapping[str, Any]:
    file: Path = bundle.folder / "configs" / f"{name}.yaml"
    if not file.is_file():
        return {}
    try:
        loaded = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise PipelineError(str(file), f"it is no YAML: {why}", "correct the file") from None
    return loaded if isinstance(loaded, Mapping) else {}


def _keys(settings: Mapping[str, Any], before: str = "") -> list[str]:
    found = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found += _keys(value, f"{before}{key}::")
        else:
            found.append(f"{before}{key}")
    return found
