"""Renders a kustomization: what of kustomize deploy/kubernetes uses, and an error for the rest.

Known are `resources`, `namespace`, `labels`, `configMapGenerator` (files), `images`, `replicas` and
`patches` by JSON Patch (RFC 6902: add, replace, remove); a ConfigMap may be replaced.
As in kustomize, a generated ConfigMap's name ends in a hash; here it is one of our own.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

Document = dict[str, Any]

WITHOUT_NAMESPACE: Final = {"Namespace"}
KNOWN: Final = {
    *("apiVersion", "kind", "resources", "namespace", "labels", "configMapGenerator"),
    *("images", "replicas", "patches"),
}


def render(folder: Path) -> list[Document]:
    """The documents that a folder's kustomization.yaml makes."""
    plan = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    if unknown := set(plan) - KNOWN:
        raise ValueError(f"{folder}: {sorted(unknown)} are not known here")
    documents: list[Document] = []
    for resource in plan.get("resources", ()):
        path = folder / resource
        if path.is_dir():
            documents += render(path)
        else:
            documents += yaml.safe_load_all(path.read_text(encoding="utf-8"))
    for generator in plan.get("configMapGenerator", ()):
        made = _config_map(folder, generator, documents)
        if generator.get("behavior") == "replace":
            old = _generated(documents, generator["name"])
            made["metadata"] = {**old["metadata"], **made["metadata"]}
            documents.remove(old)
        documents.append(made)
    for document in documents:
        if "namespace" in plan and document["kind"] not in WITHOUT_NAMESPACE:
            document["metadata"]["namespace"] = plan["namespace"]
        for labels in plan.get("labels", ()):
            _label(document, labels["pairs"], with_selectors=labels.get("includeSelectors", False))
    for count in plan.get("replicas", ()):
        _one(documents, {"kind": "Deployment", "name": count["name"]})["spec"]["replicas"] = count[
            "count"
        ]
    for patch in plan.get("patches", ()):
        _patch(_one(documents, patch["target"]), yaml.safe_load(patch["patch"]))
    for image in plan.get("images", ()):
        for container in containers(documents):
            if container["image"] == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"
    return documents


def pods(documents: list[Document]) -> Iterator[Document]:
    """The pod templates of all Deployments."""
    for document in documents:
        if document["kind"] == "Deployment":
            yield document["spec"]["template"]


def containers(documents: list[Document]) -> Iterator[Document]:
    for pod in pods(documents):
        yield from pod["spec"]["containers"]


def _config_map(folder: Path, generator: Document, documents: list[Document]) -> Document:
    data = {name: (folder / name).read_text(encoding="utf-8") for name in generator["files"]}
    digest = hashlib.sha256(json.dumps(data).encode()).hexdigest()[:10]
    name = f"{generator['name']}-{digest}"
    for pod in pods(documents):
        for volume in pod["spec"]["volumes"]:
            # as it is in the file, or as a base has made it
            was = volume.get("configMap", {}).get("name", "")
            if was == generator["name"] or was.startswith(f"{generator['name']}-"):
                volume["configMap"]["name"] = name
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def _generated(documents: list[Document], name: str) -> Document:
    found = [
        item
        for item in documents
        if item["kind"] == "ConfigMap" and item["metadata"]["name"].startswith(f"{name}-")
    ]
    if len(found) != 1:
        raise ValueError(f"{name} names {len(found)} ConfigMaps")
    return found[0]


def _label(document: Document, pairs: dict[str, str], *, with_selectors: bool) -> None:
    document["metadata"].setdefault("labels", {}).update(pairs)
    spec = document.get("spec", {})
    if not with_selectors:
        return
    match document["kind"]:
        case "Deployment":
            spec["selector"]["matchLabels"].update(pairs)
            spec["template"]["metadata"]["labels"].update(pairs)
        case "Service":
            spec["selector"].update(pairs)
        case "PodDisruptionBudget":
            spec["selector"]["matchLabels"].update(pairs)
        case "NetworkPolicy":
            # one of all pods stays one
            if "matchLabels" in spec["podSelector"]:
                spec["podSelector"]["matchLabels"].update(pairs)


def _one(documents: list[Document], target: dict[str, str]) -> Document:
    found = [
        item
        for item in documents
        if (item["kind"], item["metadata"]["name"]) == (target["kind"], target["name"])
    ]
    if len(found) != 1:
        raise ValueError(f"{target} names {len(found)} documents")
    return found[0]


def _patch(document: Document, operations: list[Document]) -> None:
    for operation in operations:
        *path, last = [
            part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
        ]
        place: Any = document
        for part in path:
            place = place[int(part) if isinstance(place, list) else part]
        if operation["op"] == "add" and last == "-" and isinstance(place, list):
            place.append(copy.deepcopy(operation["value"]))
            continue
        if operation["op"] not in ("add", "replace", "remove") or isinstance(place, list):
            raise ValueError(f"{operation} is not known here")
        if operation["op"] != "add" and last not in place:
            raise ValueError(f"{operation['path']} is not there")
        if operation["op"] == "remove":
            del place[last]
        else:
            place[last] = copy.deepcopy(operation["value"])
