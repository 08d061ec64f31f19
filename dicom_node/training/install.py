"""A site's own weights: checked against the network, then put where node.yaml names them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from dicom_node.errors import ConfigError, PipelineError
from dicom_node.inference.bundles import Bundle, entry_file
from dicom_node.inference.calibration import calibration_of
from dicom_node.inference.parts import network_of
from dicom_node.store.files import write_durably
from dicom_node.training.contract import ALL_ROWS

_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,31}")
_SHIPPED: Final = ("accuracy", "f1_macro", "quadratic_kappa", "mae", "ece", "coverage")
_PICKLES: Final = (b"PK\x03\x04", b"\x80")


@dataclass(frozen=True, slots=True)
class Installed:
    """Where the weights lie now; `already`: they lay there before."""

    weights: Path
    card: Path
    version: str
    sha256: str
    already: bool


def check_weights(bundle: Bundle, file: Path) -> tuple[Bundle, bytes]:
    """Check that a file is safetensors that fit the bundle's network.

    Returns:
        The bundle with these weights, and the file's bytes.

    Raises:
        PipelineError: They do not fit; the first tensor that differs is named.
    """
    what = f"weights {file.name}"
    try:
        content = file.read_bytes()
    except OSError as error:
        raise PipelineError(
            f"weights {file}", f"cannot be read: {error.strerror}", "correct the name"
        ) from None
    try:
        tensors = load(content)
    except SafetensorError as error:
        pickle = content.startswith(_PICKLES)
        why = "it is a pickle, which is never loaded" if pickle else str(error)
        raise PipelineError(
            what, f"it is no safetensors file: {why}", "save it with safetensors.torch.save_file"
        ) from None
    wrong = first_difference(network_of(bundle).state_dict(), tensors)
    if wrong:
        raise PipelineError(
            what,
            f"it does not fit the network of {bundle.name}: {wrong}",
            f"use weights that `dicom-node pipelines train {bundle.name}` made, or correct "
            "`network_def`",
        )
    calibration_of(content, bundle.name)
    sha = hashlib.sha256(content).hexdigest()
    return replace(bundle, weights=file, weights_sha256=sha, demonstration=False), content


def first_difference(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """Return in words the first tensor that is missing, other or not finite; "" when all fit."""
    for name, tensor in wanted.items():
        if name not in given:
            return f"tensor {name} {_shape(tensor)} is missing"
        own = given[name]
        if own.shape != tensor.shape:
            return f"tensor {name} is {_shape(own)}, the network's is {_shape(tensor)}"
        if own.is_floating_point() != tensor.is_floating_point():
            return f"tensor {name} is of type {own.dtype}, the network's is {tensor.dtype}"
        if own.is_floating_point() and not own.isfinite().all():
            return f"tensor {name} holds values that are not finite"
    others = [name for name in given if name not in wanted]
    return f"it has a tensor {others[0]} that the network has not" if others else ""


def install(
    bundle: Bundle,
    content: bytes,
    folder: Path,
    version: str | None,
    card: str | None,
    figures: Mapping[str, Any] | None,
) -> Installed:
    """Write weights, card and entry to `folder`, each file wholly or not at all.

    The entry, which makes the weights verified ones, is written last.

    Args:
        bundle: As `check_weights` returned it.
        version: Absent: the next free of site-1, site-2, ...
        card: The model card's text; absent: one to be filled in.
        figures: What `pipelines evaluate --json` wrote, for that card.

    Raises:
        ConfigError: The version is no version, or is there already with other weights.
        SpoolError: The disk refused.
    """
    digest = bundle.weights_sha256
    known = _versions(folder, bundle.name)
    if version is None:
        same = [name for name, entry in known.items() if entry.get("sha256") == digest]
        free = next(n for n in range(1, len(known) + 2) if f"site-{n}" not in known)
        version = same[0] if same else f"site-{free}"
    if not _VERSION.fullmatch(version):
        raise ConfigError(
            f"--version {version}",
            "a version is made of letters, digits, dots, plus and minus, 32 at most",
            "write it so",
        )
    weights, page = (folder / f"{bundle.name}-{version}.{kind}" for kind in ("safetensors", "md"))
    already = known.get(version)
    if already is not None and already.get("sha256") != digest:
        raise ConfigError(
            f"--version {version}",
            f"{folder} has other weights of this version",
            "reports name the version: give these another one",
        )
    write_durably(weights, content)
    if card is not None or not page.exists():
        text = card if card is not None else first_card(bundle, version, figures)
        write_durably(page, text.encode())
    entry = {
        "version": version,
        "file": weights.name,
        "sha256": digest,
        "demonstration": False,
        "card": page.name,
    }
    if figures:
        entry["figures"] = {name: figures[name] for name in ("n", *_SHIPPED) if name in figures}
    text = yaml.safe_dump({bundle.name: entry}, sort_keys=False)
    write_durably(entry_file(weights), text.encode())
    return Installed(weights, page, version, digest, already is not None)


def read_figures(file: Path, sha256: str) -> dict[str, Any]:
    """Read what `pipelines evaluate --json` wrote about these weights.

    Raises:
        ConfigError: It is no such file, or is about others.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or "weights_sha256" not in found:
        raise ConfigError(
            f"--figures {file}", "it is no evaluation", "write it with `pipelines evaluate --json`"
        )
    if found["weights_sha256"] != sha256:
        raise ConfigError(
            f"--figures {file}", "it is of other weights", "evaluate these with --weights"
        )
    return found


def first_card(bundle: Bundle, version: str, figures: Mapping[str, Any] | None) -> str:
    """Return a model card with what is known filled in and the rest asked for."""
    lines = [
        f"# {bundle.name} {version}: model card",
        "",
        f"{bundle.spec.title}. SHA-256 of the weights: `{bundle.weights_sha256}`.",
        "",
        "## Intended use",
        "",
        "To be filled in: which patients, which images, who reads the result.",
        "",
        "## Training data",
        "",
        "To be filled in: source, time span, number of patients and images, how they were",
        "labelled and by whom, permission to use them, how the splits were made.",
        "",
        "## Figures",
        "",
    ]
    if figures and figures.get("table"):
        head, *rows = figures["table"]
        lines += [_measured_on(str(figures.get("split"))), ""]
        lines += [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
    else:
        lines.append("To be filled in: `dicom-node pipelines evaluate` on data not trained on.")
    lines += ["", "## Known failures", "", "To be filled in.", ""]
    return "\n".join(lines)


def _measured_on(split: str) -> str:
    if split == ALL_ROWS:
        return (
            "All of the site's labelled data: if these weights were trained on it, this is no test."
        )
    return f"Split {split} of the site's data."


def node_yaml_lines(name: str, weights: Path) -> str:
    """Return what node.yaml needs for these weights."""
    return yaml.safe_dump({"pipelines": {name: {"weights": str(weights)}}}, sort_keys=False)


def _versions(folder: Path, name: str) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for file in sorted(folder.glob(f"{name}-*.yaml")) if folder.is_dir() else []:
        try:
            entry = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get(name)
        except (ValueError, AttributeError, yaml.YAMLError):
            raise ConfigError(
                str(file), "it is no entry of installed weights", "remove or correct the file"
            ) from None
        if isinstance(entry, Mapping):
            found[str(entry.get("version"))] = entry
    return found


def _shape(tensor: Tensor) -> str:
    return f"[{', '.join(map(str, tensor.shape))}]"
