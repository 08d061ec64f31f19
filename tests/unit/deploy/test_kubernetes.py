"""The Kubernetes manifests: rendered, checked against the API's schemas, and hardened."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from dicom_node.config import NodeConfig, load_config
from dicom_node.inference.bundles import find_bundles
from dicom_node.serve.roles import ROLES
from tests.unit.deploy.kustomization import Document, containers, pods, render

FOLDER = Path(__file__).parents[3] / "deploy" / "kubernetes"
VERSION = "1.31"
"""Of the Kubernetes API that is checked against."""

KUBECTL = shutil.which("kubectl")


@pytest.fixture(params=["cpu", "gpu"])
def overlay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def documents(overlay: str) -> list[Document]:
    return render(FOLDER / "overlays" / overlay)


@pytest.fixture
def config() -> NodeConfig:
    return load_config(FOLDER / "base" / "node.yaml", find_bundles())


def named(documents: list[Document], kind: str) -> dict[str, Document]:
    return {item["metadata"]["name"]: item for item in documents if item["kind"] == kind}


def test_every_document_follows_the_schema_of_the_api(documents: list[Document]) -> None:
    assert len(documents) == 16
    for document in documents:
        kubernetes_validate.validate(document, VERSION, strict=True)


def test_the_check_finds_what_is_wrong(documents: list[Document]) -> None:
    worker = named(documents, "Deployment")["worker"]
    worker["spec"]["template"]["spec"]["containers"][0]["comand"] = ["serve"]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(worker, VERSION, strict=True)


def by_name(documents: list[Document]) -> dict[tuple[str, str], Document]:
    """Documents by kind and name; hashes in names are left out, for each renderer has its own."""
    plain = re.sub(r"dicom-node-config-\w+", "dicom-node-config", json.dumps(documents))
    return {(item["kind"], item["metadata"]["name"]): item for item in json.loads(plain)}


# a machine without kubectl has the same documents from our own renderer, checked above
@pytest.mark.parametrize("kubectl", [KUBECTL] if KUBECTL else [])
def test_kubectl_renders_the_same(kubectl: str, overlay: str, documents: list[Document]) -> None:
    told = subprocess.run(
        [kubectl, "kustomize", FOLDER / "overlays" / overlay],
        capture_output=True,
        text=True,
        check=True,
    )
    assert by_name(list(yaml.safe_load_all(told.stdout))) == by_name(documents)


def test_each_role_of_the_node_is_there_and_runs_as_that_role(documents: list[Document]) -> None:
    deployments = named(documents, "Deployment")
    assert set(deployments) == {*ROLES, "web"}
    for role, deployment in deployments.items():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["args"] == ["serve", "--role", role]
        # nothing selects the pods of another role
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"] == labels
        assert labels["app.kubernetes.io/component"] == role


def test_every_pod_obeys_the_restricted_security_standard(documents: list[Document]) -> None:
    namespace = named(documents, "Namespace")["dicom-node"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for pod in pods(documents):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert all(
            {"persistentVolumeClaim", "configMap", "emptyDir", "secret"} & set(volume)
            for volume in spec["volumes"]
        )
        # the supervisor's 30 seconds fit in
        assert spec["terminationGracePeriodSeconds"] > 30
    for container in containers(documents):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]


def test_secrets_are_named_and_not_contained(documents: list[Document]) -> None:
    assert "Secret" not in {item["kind"] for item in documents}
    for container in containers(documents):
        for item in container["env"]:
            assert item["valueFrom"]["secretKeyRef"]["name"] == "dicom-node-database"
    text = (FOLDER / "base" / "node.yaml").read_text()
    assert not re.search(r"://\w+:[^@/]+@", text)


def test_probes_and_services_reach_ports_that_are_there(
    documents: list[Document], config: NodeConfig
) -> None:
    assert config.web is not None
    wanted = {"receiver": config.node.port, "web": config.web.port}
    for role, deployment in named(documents, "Deployment").items():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        ports = {item["name"]: item["containerPort"] for item in container.get("ports", ())}
        assert list(ports.values()) == ([wanted[role]] if role in wanted else [])
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert (kind in container) == (role in wanted)
            if role in wanted:
                probe = container[kind].get("tcpSocket") or container[kind]["httpGet"]
                assert probe["port"] in ports
                assert probe.get("path", "/healthz") == "/healthz"
    for service in named(documents, "Service").values():
        role = service["spec"]["selector"]["app.kubernetes.io/component"]
        (container,) = named(documents, "Deployment")[role]["spec"]["template"]["spec"][
            "containers"
        ]
        names = {item["name"] for item in container["ports"]}
        assert {item["targetPort"] for item in service["spec"]["ports"]} <= names
    dicom = named(documents, "Service")["dicom"]["spec"]
    assert (dicom["type"], dicom["externalTrafficPolicy"]) == ("LoadBalancer", "Local")


def test_nothing_is_open_but_what_a_policy_names(
    documents: list[Document], config: NodeConfig
) -> None:
    policies = named(documents, "NetworkPolicy")
    closed = policies["deny-all"]["spec"]
    assert sorted(closed["policyTypes"]) == ["Egress", "Ingress"]
    assert not {"ingress", "egress"} & set(closed)
    open_ports = {
        (item["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"], port["port"])
        for item in policies.values()
        for rule in item["spec"].get("ingress", ())
        for port in rule["ports"]
    }
    assert config.web is not None
    assert open_ports == {("receiver", config.node.port), ("web", config.web.port)}
    out = {
        port["port"] for rule in policies["reports-out"]["spec"]["egress"] for port in rule["ports"]
    }
    assert {peer.port for peer in config.dicom_peers.values()} <= out


def test_the_receivers_are_never_all_away(documents: list[Document]) -> None:
    budget = named(documents, "PodDisruptionBudget")["receiver"]["spec"]
    receiver = named(documents, "Deployment")["receiver"]["spec"]
    assert receiver["replicas"] > budget["minAvailable"] >= 1
    assert budget["selector"]["matchLabels"].items() <= receiver["selector"]["matchLabels"].items()
    assert receiver["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_node_yaml_finds_its_files_in_the_pods(
    documents: list[Document], config: NodeConfig
) -> None:
    assert config.web is not None
    assert config.web.tls is not None
    for pod in pods(documents):
        (container,) = pod["spec"]["containers"]
        mounted = {item["name"]: item["mountPath"] for item in container["volumeMounts"]}
        assert mounted["data"] == str(config.node.data_dir)
        assert mounted["config"] == "/etc/dicom-node"
        assert set(mounted) == {item["name"] for item in pod["spec"]["volumes"]}
        if "tls" in mounted:
            assert str(config.web.tls.certificate.parent) == mounted["tls"]
    claims: Any = named(documents, "PersistentVolumeClaim")
    assert claims["dicom-node-data"]["spec"]["accessModes"] == ["ReadWriteMany"]
    maps = named(documents, "ConfigMap")
    (name,) = maps
    used = {
        volume["configMap"]["name"]
        for pod in pods(documents)
        for volume in pod["spec"]["volumes"]
        if "configMap" in volume
    }
    assert used == {name}


def test_only_the_gpu_overlay_asks_for_a_gpu_and_only_for_workers(
    overlay: str, documents: list[Document]
) -> None:
    with_gpu = {
        container["name"]
        for container in containers(documents)
        if container["resources"]["limits"].get("nvidia.com/gpu") == 1
    }
    assert with_gpu == ({"worker"} if overlay == "gpu" else set())
    flavour = "cuda" if overlay == "gpu" else "cpu"
    images = {container["image"] for container in containers(documents)}
    assert images == {f"registry.hospital.example/dicom-node:0.1.0-{flavour}"}
