"""The compose file: it is valid, holds no secret, and its node.yaml and files are there."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml

from dicom_node.config import load_config
from dicom_node.inference.bundles import find_bundles

DEPLOY = Path(__file__).parents[3] / "deploy"
FOLDER = DEPLOY / "compose"
TEXT = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
SECRETS = {"POSTGRES_PASSWORD", "ORTHANC_PASSWORD", "GRAFANA_PASSWORD"}


@pytest.fixture
def compose() -> Any:
    """The file with its YAML anchors resolved."""
    return yaml.safe_load(TEXT)


def validate(compose: Any) -> None:
    compose_spec.PyCompose.from_yaml(yaml.safe_dump(compose)).validate()


def mounts(compose: Any) -> Iterator[tuple[str, str]]:
    """Each bind mount: the file here, and the path in the container."""
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            source, target, *_ = volume.split(":")
            if source.startswith("."):
                yield source, target


def test_it_follows_the_compose_specification(compose: Any) -> None:
    validate(compose)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("node", "stop_grace"), "45s"),
        (("node", "networks"), ["no_such"]),
        (("grafana", "depends_on"), {"prometheus": {"condition": "well"}}),
        (("orthanc", "ports"), ["127.0.0.1:99999:1"]),
    ],
)
def test_the_check_finds_what_is_wrong(compose: Any, path: tuple[str, str], value: Any) -> None:
    compose["services"][path[0]][path[1]] = value
    with pytest.raises(ValueError, match=path[0]):
        validate(compose)


def test_images_are_pinned_and_every_service_has_a_health_check(compose: Any) -> None:
    for name, service in compose["services"].items():
        assert re.search(r":v?\d+\.\d+(\.\d+)?[\w.-]*$", service["image"]), name
        # the node's is in its image
        assert "healthcheck" in service or name == "node"
        assert service["restart"] == "unless-stopped"
        assert set(service["networks"]) < {"dicom", "database", "metrics"} or name == "node"


def test_its_ports_are_open_to_this_machine_only(compose: Any) -> None:
    ports = [port for item in compose["services"].values() for port in item.get("ports", ())]
    assert len(ports) == 6
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_file_holds_a_secret(compose: Any) -> None:
    asked = re.findall(r"\$\{(\w+):\?[^}]+\}", TEXT)
    assert set(asked) == SECRETS
    for service in compose["services"].values():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|USERS", key):
                assert "${" in value, key
    example = (FOLDER / ".env.example").read_text(encoding="utf-8")
    assert set(re.findall(r"^(\w+)=$", example, re.MULTILINE)) == SECRETS
    assert not re.search(r"^\w+=.", example, re.MULTILINE)
    assert {".env", "secrets/"} <= set((FOLDER / ".gitignore").read_text().split())


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A copy of the folder in which prepare.sh has run."""
    folder = tmp_path / "compose"
    folder.mkdir()
    shutil.copy(FOLDER / "prepare.sh", folder)
    subprocess.run([folder / "prepare.sh"], check=True, capture_output=True)
    return folder


def test_the_secrets_are_made_once_and_are_private(prepared: Path) -> None:
    env = (prepared / ".env").read_text()
    values = dict(line.split("=") for line in env.splitlines())
    assert set(values) == SECRETS
    assert len(set(values.values())) == 3
    assert all(len(value) == 48 for value in values.values())
    assert (prepared / ".env").stat().st_mode & 0o777 == 0o600
    assert (prepared / "secrets").stat().st_mode & 0o777 == 0o700
    certificate = (prepared / "secrets" / "web.pem").read_bytes()
    subprocess.run([prepared / "prepare.sh"], check=True, capture_output=True)
    assert (prepared / ".env").read_text() == env
    assert (prepared / "secrets" / "web.pem").read_bytes() == certificate


def test_its_certificate_is_good_for_the_names_that_are_used(prepared: Path) -> None:
    files = prepared / "secrets"
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files / "web.pem", files / "web.key")
    for name in ("node", "localhost"):
        told = subprocess.run(
            ["openssl", "x509", "-noout", "-checkhost", name, "-in", files / "web.pem"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "does match" in told.stdout


def test_every_file_that_is_mounted_is_there(compose: Any, prepared: Path) -> None:
    for source, _ in mounts(compose):
        made = source.startswith("./secrets/")
        assert ((prepared if made else FOLDER) / source).resolve().exists(), source


def test_its_node_yaml_loads_and_fits_the_compose_file(compose: Any) -> None:
    config = load_config(FOLDER / "node.yaml", find_bundles())
    services = compose["services"]
    orthanc = config.dicom_peers["orthanc"]
    settings = services["orthanc"]["environment"]
    assert (orthanc.ae_title, str(orthanc.port)) == (
        settings["ORTHANC__DICOM_AET"],
        settings["ORTHANC__DICOM_PORT"],
    )
    known = json.loads(settings["ORTHANC__DICOM_MODALITIES"])["ainode"]
    assert known == [config.node.ae_title[0], "node", config.node.port]
    database = services["postgres"]["environment"]
    user, name = database["POSTGRES_USER"], database["POSTGRES_DB"]
    assert config.database_url == f"postgresql+psycopg://{user}@postgres/{name}"
    assert config.web is not None
    assert config.web.tls is not None
    targets = {target for _, target in mounts(compose)}
    assert {str(config.web.tls.certificate), str(config.web.tls.key)} <= targets
    assert services["node"]["environment"]["DICOM_NODE_HEALTH_URL"] == (
        f"https://127.0.0.1:{config.web.port}/readyz"
    )
    assert services["node"]["stop_grace_period"] == "45s"


def test_prometheus_asks_the_node_and_grafana_asks_prometheus(compose: Any) -> None:
    scrape = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["scrape_configs"][0]
    config = load_config(FOLDER / "node.yaml")
    assert config.web is not None
    assert scrape["static_configs"][0]["targets"] == [f"node:{config.web.port}"]
    assert "node" in config.web.allowed_hosts
    targets = {target for _, target in mounts(compose)}
    assert scrape["tls_config"]["ca_file"] in targets
    # the rules ask for this job's name
    assert f'job="{scrape["job_name"]}"' in (DEPLOY / "prometheus" / "alerts.yaml").read_text()
    sources = yaml.safe_load(
        (FOLDER / "grafana/provisioning/datasources/prometheus.yaml").read_text()
    )
    assert sources["datasources"][0]["url"] == "http://prometheus:9090"
    boards = yaml.safe_load(
        (FOLDER / "grafana/provisioning/dashboards/dashboards.yaml").read_text()
    )
    assert boards["providers"][0]["options"]["path"] in targets
