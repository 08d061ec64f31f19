"""A bundle's inference configuration: what of it runs here, and whether it may.

A bundle of the Model Zoo brings its data set, loaders, handlers and evaluator; the node has its
own. Kept is what the parts that run refer to, and of their transforms those that neither read
nor write files. What is kept is judged before any of it is built (`expressions`): a name outside
of MONAI's and PyTorch's parts, or an expression that does more than compute, needs trust.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from monai.bundle import ConfigParser
from monai.bundle.config_item import ConfigComponent, ConfigExpression, ConfigItem
from monai.bundle.reference_resolver import ReferenceResolver

from dicom_node.errors import PipelineError
from dicom_node.inference.bundles import BUILT_IN, Bundle
from dicom_node.inference.expressions import imported, names_in, why_not_harmless
from dicom_node.inference.trust import Trust, trust_of

PARTS: Final = (
    "network_def",
    "preprocessing",
    "inferer",
    "postprocessing",
    "locator",
    "gate",
    "chooser",
    "detector",
    "detector_ops",
)
"""Keys that the engine builds; everything else counts where one of these refers to it."""

_FILES: Final = ("LoadImage", "SaveImage", "SaveClassification", "WriteFileMapping")
_OF_FILES: Final = frozenset(n + end for n in _FILES for end in ("", "d", "D", "Dict"))
_ALLOWED: Final = (
    "monai.transforms.",
    "monai.inferers.",
    "monai.networks.nets.",
    "monai.networks.blocks.",
    "monai.networks.layers.",
    "monai.apps.detection.",
    "torch.nn.",
    "pipelines.networks.",
    "pipelines.transforms.",
)
_CLASSES_ONLY: Final = ("monai.transforms.", "monai.inferers.")
_NEVER: Final = "monai.transforms.io."
_IMPORTING: Final = threading.Lock()


def read_parser(bundle: Bundle, device: torch.device) -> ConfigParser:
    """Read a bundle's configuration, with what the engine needs of it and nothing else.

    Nothing is built or evaluated yet.
    """
    parser = ConfigParser()
    parser.read_config(str(bundle.inference_config))
    parser.set(_rooted(_without_files(parser.get()), bundle))
    parser.read_meta(str(bundle.folder / "configs" / "metadata.json"))
    parser["bundle_root"] = str(bundle.folder)
    parser["device"] = device
    parser.parse()
    # once more: a macro may have brought another file's transforms
    config = _without_files(parser.get())
    # a detector brings its own way through an image, TorchScript its own network
    without = {"inferer"} if "detector" in parser else set()
    if bundle.weights.suffix == ".ts":
        without.add("network_def")
    wanted = _closure(parser, [p for p in PARTS if p in parser and p not in without])
    imports = [*_imports(config, parser, wanted)]
    kept = {key: config[key] for key in config if key in {*wanted, "bundle_root", "device"}}
    parser.set({**kept, "imports": imports})
    parser.parse()
    return parser


def check_trust(bundle: Bundle, parser: ConfigParser) -> None:
    """Refuse what is beyond the harmless forms in a bundle that nobody has trusted.

    Raises:
        PipelineError: With the first place, and what to do.
    """
    if bundle.folder.parent == BUILT_IN:
        return
    problem = next(problems(parser), None)
    if problem is not None:
        require_trust(bundle, f"{bundle.inference_config.name}: {problem}")


def require_trust(bundle: Bundle, why: str) -> None:
    """Refuse a bundle that runs code of its own and has not been trusted as it is now.

    Raises:
        PipelineError: It has not.
    """
    if bundle.folder.parent == BUILT_IN:
        return
    state = trust_of(bundle.folder)
    if state is Trust.TRUSTED:
        return
    changed = "its files have changed since it was trusted; " if state is Trust.CHANGED else ""
    raise PipelineError(
        f"pipeline {bundle.name}",
        f"{changed}it brings code that runs only if you trust it: {why}",
        f"read the bundle's files, then `dicom-node pipelines trust {bundle.name}`",
    )


def problems(parser: ConfigParser) -> Iterator[str]:
    """Yield what in a parsed configuration is beyond the harmless forms, with its place."""
    items: Mapping[str, ConfigItem] = parser.ref_resolver.items
    aliases: dict[str, str] = {}
    for item in items.values():
        if _is_import(item):
            found = imported(item.config)
            if found is None:
                yield f"{item.id} says {item.config}"
            else:
                aliases[found[0]] = found[1]
    for place, item in items.items():
        if isinstance(item, ConfigComponent):
            why = _why_no_part(item)
        elif isinstance(item, ConfigExpression) and not _is_import(item):
            why = why_not_harmless(item.config, aliases, is_part)
        else:
            continue
        if why is not None:
            yield f"{place}: {why}"


def is_part(name: str) -> bool:
    """Tell whether a dotted name is one of the parts that any bundle may build."""
    home, _, last = name.rpartition(".")
    if not f"{home}.".startswith(_ALLOWED) or last.startswith("_"):
        return False
    try:
        found = getattr(importlib.import_module(home), last, None)
    except ImportError:
        return False
    if not (inspect.isclass(found) or inspect.isfunction(found)):
        return False
    # what a module has imported from elsewhere is no part of it
    whole = f"{found.__module__}."
    if not whole.startswith(_ALLOWED) or whole.startswith(_NEVER):
        return False
    return inspect.isclass(found) or not whole.startswith(_CLASSES_ONLY)


@contextmanager
def own_code(bundle: Bundle) -> Iterator[None]:
    """Let a trusted bundle's modules (`scripts` …) be imported, from their sources alone.

    They are forgotten afterwards: another bundle's modules have the same names.
    """
    if bundle.folder.parent == BUILT_IN or trust_of(bundle.folder) is not Trust.TRUSTED:
        yield
        return
    home = str(bundle.folder)
    with _IMPORTING:
        before = sys.dont_write_bytecode, sys.pycache_prefix
        # compiled files are not among those that were trusted: look where none can be, in a file
        sys.dont_write_bytecode, sys.pycache_prefix = True, str(bundle.inference_config)
        sys.path.insert(0, home)
        importlib.invalidate_caches()
        try:
            yield
        finally:
            sys.path.remove(home)
            sys.dont_write_bytecode, sys.pycache_prefix = before
            for name in [name for name, module in sys.modules.items() if _lies_in(module, home)]:
                del sys.modules[name]


def _lies_in(module: Any, home: str) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and Path(file).is_relative_to(home)


def _without_files(config: Any) -> Any:
    """Leave out the transforms that read or write files, and what asks for a download.

    Before anything is built, because a file reader may need a package that only training has.
    The node's readers have read the image; the weights are the bundle's own.
    """
    if isinstance(config, Mapping):
        kept = {key: _without_files(value) for key, value in config.items()}
        if "_target_" in kept:
            kept.update({key: False for key in ("pretrained",) if key in kept})
        return kept
    if isinstance(config, list):
        return [_without_files(item) for item in config if not _handles_files(item)]
    return config


def _handles_files(item: Any) -> bool:
    target = item.get("_target_") if isinstance(item, Mapping) else None
    return isinstance(target, str) and target.rpartition(".")[2] in _OF_FILES


def _rooted(config: Any, bundle: Bundle) -> Any:
    """Let `%file::key` find files from the bundle's folder, and none outside of it."""
    if isinstance(config, Mapping):
        return {key: _rooted(value, bundle) for key, value in config.items()}
    if isinstance(config, list):
        return [_rooted(item, bundle) for item in config]
    if isinstance(config, str) and config.startswith("%"):
        file, key = ConfigParser.split_path_id(config[1:])
        if file:
            root = bundle.folder.resolve()
            inside = (root / file).resolve()
            if not inside.is_relative_to(root):
                raise PipelineError(
                    f"pipeline {bundle.name}: {bundle.inference_config.name}",
                    f"{config} is outside of the bundle",
                    "put the file into the bundle",
                )
            return f"%{inside}::{key}"
    return config


def _closure(parser: ConfigParser, roots: Iterable[str]) -> frozenset[str]:
    """Return the top-level keys that parts refer to, themselves among them."""
    items: Mapping[str, ConfigItem] = parser.ref_resolver.items
    done: set[str] = set()
    waiting = list(roots)
    while waiting:
        key = ReferenceResolver.split_id(waiting.pop())[0]
        if key in done:
            continue
        done.add(key)
        for place, item in items.items():
            if ReferenceResolver.split_id(place)[0] == key and isinstance(item.config, str):
                waiting += ReferenceResolver.match_refs_pattern(item.config)
    return frozenset(done)


def _imports(config: Mapping[str, Any], parser: ConfigParser, wanted: Iterable[str]) -> list[str]:
    """Return the import statements whose names the wanted expressions use."""
    top = {*wanted}
    used: set[str] = set()
    statements: dict[str, None] = {}
    for place, item in parser.ref_resolver.items.items():
        if _is_import(item):
            statements[item.config] = None
        elif isinstance(item, ConfigExpression) and ReferenceResolver.split_id(place)[0] in top:
            used |= names_in(item.config)
    return [text for text in statements if _bound(text) & used]


def _bound(statement: str) -> set[str]:
    """Return the names that an import statement makes."""
    words = statement.removeprefix("$").replace(",", " ").split()
    named = words[-1] if words else ""
    return {named, named.partition(".")[0]}


def _is_import(item: ConfigItem) -> bool:
    return bool(ConfigExpression.is_import_statement(item.config))


def _why_no_part(item: ConfigComponent) -> str | None:
    config = item.config
    target = config.get("_target_")
    if not isinstance(target, str) or target.startswith("$"):
        return "its _target_ is computed"
    if str(config.get("_mode_", "default")) not in ("default", "callable"):
        return f"its _mode_ is {config['_mode_']}"
    name = _whole_name(item)
    return None if is_part(name) else f"it names {name}"


def _whole_name(item: ConfigComponent) -> str:
    """Return the dotted name of a `_target_`, which may be the bare name of a class of MONAI."""
    target = str(item.config["_target_"])
    homes = item.locator.get_component_module_name(target)
    if homes is None:
        return target
    return f"{homes if isinstance(homes, str) else homes[0]}.{target}"
