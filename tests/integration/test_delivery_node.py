"""The whole node: one peer commits, one takes STOW-RS with a password, one is not there."""

from __future__ import annotations

import json
from pathlib import Path

from dicom_node.demo.orthanc import Orthanc
from dicom_node.demo.phantom_studies import write_study
from dicom_node.demo.ports import free_port
from dicom_node.demo.routes import ROUTES
from dicom_node.demo.studies import knee
from tests.integration.conftest import DICOMWEB
from tests.peers.node import Node
from tests.peers.ports import wait_for

SECRET = "correct horse"


def test_each_peer_gets_the_report_in_its_own_way(tmp_path: Path) -> None:
    pacs_port, web_port = free_port(), free_port()
    secret = tmp_path / "password"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    here = {"host": "127.0.0.1"}
    node = Node(
        tmp_path / "node",
        pacs_port,
        peers={
            "pacs": {**here, "ae_title": "PACS", "port": pacs_port, "storage_commitment": True},
            "web": {
                "url": f"http://127.0.0.1:{web_port}/dicom-web",
                "auth": {"user": "node", "password_file": str(secret)},
            },
            "away": {**here, "ae_title": "AWAY", "port": free_port()},
            "xray": {**here, "ae_title": "STORESCU", "port": 104},
        },
        routes=[{**ROUTES[0], "send_to": ["pacs", "web", "away"]}],
    )
    pacs = Orthanc(
        tmp_path / "pacs",
        ae_title="PACS",
        dicom_port=pacs_port,
        http_port=free_port(),
        modalities={"ainode": ("AINODE", "127.0.0.1", node.port)},
    )
    web = Orthanc(
        tmp_path / "web",
        ae_title="WEB",
        dicom_port=free_port(),
        http_port=web_port,
        plugins=(DICOMWEB,),
        user=("node", SECRET),
    )
    try:
        with pacs, web:
            node.start()
            write_study(knee().instances, tmp_path / "knee")
            done = node.send(sorted((tmp_path / "knee").rglob("*.dcm")))
            assert done.returncode == 0, done.stderr

            def states() -> dict[str, set[str]]:
                found: dict[str, set[str]] = {}
                for line in node.studies().values():
                    for job in line.jobs:
                        for item in job.deliveries:
                            found.setdefault(item.peer, set()).add(item.state)
                return found

            wanted = {"pacs": {"committed"}, "web": {"sent"}, "away": {"pending"}}
            wait_for("each peer's state", lambda: states() == wanted, 180)
            sent = {item["SOPInstanceUID"] for item in web.instances()}
            assert sent == {item["SOPInstanceUID"] for item in pacs.instances()}
            assert len(sent) >= 2
            told = json.loads(node.cli("check", "--json").stdout)
            checked = {item["name"]: item for item in told}
            assert checked["peer pacs"]["level"] == "ok"
            assert "plain text" in checked["peer web"]["seen"]
            assert checked["peer away"]["level"] == "warn"
            again = node.cli("send", str(tmp_path / "knee"), "web")
            assert again.returncode == 0, again.stderr
        log = node.log.read_text()
        assert SECRET not in log
        assert "commitment_asked" in log
    finally:
        node.close()
