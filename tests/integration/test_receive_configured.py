"""What `node.yaml` says of receiving is what `dicom-node serve` does."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from dicom_node.demo.ports import free_port
from dicom_node.serve.locks import holders
from tests.factories import radiograph
from tests.integration.test_commitment import Told, ask, request
from tests.peers.certificates import Certificates, make_certificates
from tests.peers.dcmtk import echoscu
from tests.peers.node import Node, running_node
from tests.peers.ports import wait_for

CALLER = ("-aec", "AINODE", "-aet", "STORESCU")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def node(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[tuple[Node, int]]:
    """A node without routes: two receivers, TLS with certificates; and its TLS port."""
    tls_port = free_port()
    receive = {
        "processes": 2,
        "check_addresses": True,
        "max_associations_per_peer": 3,
        "max_dataset_mb": 1,
        "tls": {
            "port": tls_port,
            "certificate": str(certificates.server.certificate),
            "key": str(certificates.server.key),
            "client_ca": str(certificates.ca.certificate),
            "client_certificate": "optional",
        },
    }
    loopback = {"host": "127.0.0.1", "port": 104}
    peers = {
        "pacs": {"ae_title": "PACS", **loopback},
        "xray": {"ae_title": "STORESCU", **loopback},
        "certified": {"ae_title": "CERTIFIED", "needs_certificate": True, **loopback},
        "elsewhere": {"ae_title": "ELSEWHERE", "host": "192.0.2.1", "port": 104},
    }
    with running_node(
        tmp_path_factory.mktemp("node"),
        104,
        routes=(),
        receive=receive,
        peers=peers,
        accept_from=list(peers),
    ) as running:
        yield running, tls_port


def test_two_receivers_share_the_ports(node: tuple[Node, int], certificates: Certificates) -> None:
    running, tls_port = node
    wait_for(
        "both receivers",
        lambda: {"receiver-0", "receiver-1"} <= set(holders(running.config.node.data_dir)),
        60,
    )
    secure = ("+tla", "+cf", str(certificates.ca.certificate))
    for _ in range(8):
        assert echoscu(running.port, *CALLER).stderr == ""
        assert echoscu(tls_port, *CALLER, *secure).stderr == ""


def test_a_peer_is_known_by_its_address_and_its_certificate(
    node: tuple[Node, int], certificates: Certificates
) -> None:
    running, tls_port = node
    unknown = "Calling AE Title Not Recognized"
    certified = ("-aec", "AINODE", "-aet", "CERTIFIED")
    client = certificates.client
    shown = ("+tls", str(client.key), str(client.certificate))
    trust = ("+cf", str(certificates.ca.certificate))
    assert unknown in echoscu(running.port, "-aec", "AINODE", "-aet", "ELSEWHERE").stderr
    assert unknown in echoscu(running.port, *certified).stderr
    assert unknown in echoscu(tls_port, *certified, "+tla", *trust).stderr
    assert echoscu(tls_port, *certified, *shown, *trust).stderr == ""


def test_images_are_limited_kept_and_committed_by_tls(
    node: tuple[Node, int], certificates: Certificates
) -> None:
    _, tls_port = node
    told = Told()
    image, large = radiograph(), radiograph()
    large.PixelData = bytes(2 * 1024 * 1024)
    ae = AE("STORESCU")
    ae.add_requested_context(StorageCommitmentPushModel)
    ae.add_requested_context(image.SOPClassUID, image.file_meta.TransferSyntaxUID)
    context = ssl.create_default_context(cafile=str(certificates.ca.certificate))
    handlers: Any = [(evt.EVT_N_EVENT_REPORT, told.take)]
    association = ae.associate(
        "127.0.0.1",
        tls_port,
        ae_title="AINODE",
        tls_args=(context, "127.0.0.1"),
        evt_handlers=handlers,
    )
    assert association.is_established
    assert association.send_c_store(image).Status == 0
    assert association.send_c_store(large).Status == 0xA700
    assert ask(association, request(image, large)) == 0
    wait_for("the report", lambda: told.reports)
    association.release()
    ((kind, report),) = told.reports
    assert kind == 2
    assert report.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID
    assert report.FailedSOPSequence[0].ReferencedSOPInstanceUID == large.SOPInstanceUID
    assert report.FailedSOPSequence[0].FailureReason == 0x0112


def test_check_and_status_tell_of_it(node: tuple[Node, int], tmp_path: Path) -> None:
    running, tls_port = node
    checks = {item["name"]: item for item in json.loads(running.cli("check", "--json").stdout)}
    assert checks["tls"]["level"] == "ok"
    assert str(tls_port) in checks["tls"]["seen"]
    assert "warned of below" in checks["disk"]["seen"]
    status = json.loads(running.cli("status", "--json").stdout)
    assert status["disk"]["level"] == "ok"
    assert status["disk"]["warn_below"] == 2 * status["disk"]["refuse_below"]
