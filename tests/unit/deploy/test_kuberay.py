"""The overlay with a Ray cluster: rendered, checked as far as schemas go, hardened, closed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import ray
import yaml

from dicom_node.config import NodeConfig, load_config
from dicom_node.inference.bundles import find_bundles
from tests.unit.deploy.kustomization import Document, containers, pods, render
from tests.unit.deploy.test_kubernetes import FOLDER, VERSION, by_name, named

OVERLAY = FOLDER / "overlays" / "ray"
KUBECTL = shutil.which("kubectl")

# of KubeRay's RayClusterSpec, HeadGroupSpec and WorkerGroupSpec (ray.io/v1), what is used here
CLUSTER = {"rayVersion", "enableInTreeAutoscaling", "headGroupSpec", "workerGroupSpecs"}
HEAD = {"rayStartParams", "template"}
WORKERS = {*HEAD, "groupName", "replicas", "minReplicas", "maxReplicas"}


@pytest.fixture
def documents() -> list[Document]:
    return render(OVERLAY)


@pytest.fixture
def config() -> NodeConfig:
    return load_config(OVERLAY / "node.yaml", find_bundles())


@pytest.fixture
def groups(documents: list[Document]) -> list[Any]:
    spec = named(documents, "RayCluster")["pipelines"]["spec"]
    assert set(spec) == CLUSTER
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def test_every_document_follows_the_schema_of_the_api(
    documents: list[Document], groups: list[Any]
) -> None:
    known = [document for document in documents if document["kind"] != "RayCluster"]
    assert len(documents) == len(known) + 1
    for document in known:
        kubernetes_validate.validate(document, VERSION, strict=True)
    for group in groups:
        template = {
            "apiVersion": "v1",
            "kind": "PodTemplate",
            "metadata": {"name": "ray"},
            "template": group["template"],
        }
        kubernetes_validate.validate(template, VERSION, strict=True)
    head, workers = groups
    assert (set(head), set(workers)) == (HEAD, WORKERS)
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]


# a machine without kubectl has the same documents from our own renderer
@pytest.mark.parametrize("kubectl", [KUBECTL] if KUBECTL else [])
def test_kubectl_renders_the_same(kubectl: str, documents: list[Document]) -> None:
    told = subprocess.run(
        [kubectl, "kustomize", OVERLAY], capture_output=True, text=True, check=True
    )
    assert by_name(list(yaml.safe_load_all(told.stdout))) == by_name(documents)


def test_ray_pods_obey_the_restricted_security_standard(groups: list[Any]) -> None:
    for group in groups:
        spec = group["template"]["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert {"emptyDir", "name"} == {key for volume in spec["volumes"] for key in volume}
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])
        ports = {port["name"] for port in container["ports"]}
        for probe in ("readinessProbe", "livenessProbe"):
            assert container[probe]["tcpSocket"]["port"] in ports


def test_ray_is_ours_quiet_and_wants_its_token(
    documents: list[Document], groups: list[Any]
) -> None:
    (image,) = {container["image"] for container in containers(documents)}
    token = {"secretKeyRef": {"name": "dicom-node-ray", "key": "token"}}
    for group in groups:
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"] == image
        env = {item["name"]: item.get("value") or item["valueFrom"] for item in container["env"]}
        assert env == {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": token,
        }
        assert group["rayStartParams"]["disable-usage-stats"] == "true"
    head = groups[0]["rayStartParams"]
    assert (head["include-dashboard"], head["dashboard-host"]) == ("false", "127.0.0.1")
    assert named(documents, "RayCluster")["pipelines"]["spec"]["rayVersion"] == ray.__version__
    worker = named(documents, "Deployment")["worker"]["spec"]["template"]["spec"]["containers"][0]
    env = {item["name"]: item.get("value") or item["valueFrom"] for item in worker["env"]}
    assert (env["RAY_AUTH_MODE"], env["RAY_AUTH_TOKEN"]) == ("token", token)


def test_the_worker_reaches_the_head_and_nobody_else_does(
    documents: list[Document], groups: list[Any], config: NodeConfig
) -> None:
    assert config.inference.executor == "ray"
    host, port = config.ray.address.removeprefix("ray://").split(":")
    assert host == f"{named(documents, 'RayCluster')['pipelines']['metadata']['name']}-head-svc"
    assert groups[0]["rayStartParams"]["ray-client-server-port"] == port
    policies = named(documents, "NetworkPolicy")
    inside, among = (
        policies["jobs-to-ray"]["spec"]["egress"],
        policies["ray-among-itself"]["spec"]["ingress"],
    )
    assert [rule["ports"] for rule in inside] == [[{"protocol": "TCP", "port": int(port)}]]
    callers = [(rule["from"][0]["podSelector"]["matchLabels"], rule.get("ports")) for rule in among]
    component = "app.kubernetes.io/component"
    assert callers == [
        ({component: "ray"}, None),
        ({component: "worker"}, [{"protocol": "TCP", "port": int(port)}]),
    ]
    labels = [group["template"]["metadata"]["labels"] for group in groups]
    assert labels == [{component: "ray"}] * 2
    assert policies["deny-all"]["spec"]["podSelector"] == {}


def test_the_overlay_s_node_yaml_is_the_one_that_the_pods_have(documents: list[Document]) -> None:
    (found,) = named(documents, "ConfigMap").values()
    assert found["data"]["node.yaml"] == Path(OVERLAY / "node.yaml").read_text()
    used = {
        volume["configMap"]["name"]
        for pod in pods(documents)
        for volume in pod["spec"]["volumes"]
        if "configMap" in volume
    }
    assert used == {found["metadata"]["name"]}
    assert named(documents, "Deployment")["worker"]["spec"]["replicas"] == 1
