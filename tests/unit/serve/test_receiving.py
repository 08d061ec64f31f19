"""`node.yaml`'s words about receiving become the receiver's settings, each of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom_node.receive.settings import ClientCertificate, ReceiverSettings
from dicom_node.serve import roles
from dicom_node.serve.receiving import receiver_settings
from dicom_node.serve.supervisor import SUPERVISED
from tests.unit.serve.small_node import config_in

NODE = {
    "ae_title": ["AINODE", "OLDNAME"],
    "host": "127.0.0.1",
    "port": 11113,
    "data_dir": "data",
    "min_free_mb": 7,
    "max_associations": 9,
}
RECEIVE = {
    "processes": 2,
    "check_addresses": True,
    "max_associations_per_peer": 3,
    "max_connections": 77,
    "max_pdu_kb": 64,
    "max_dataset_mb": 5,
    "reserve_mb": 6,
    "idle_seconds": 11,
    "request_seconds": 12,
    "sop_classes": ["1.2.3"],
    "tls": {
        "port": 2763,
        "certificate": "node.pem",
        "key": "node.key",
        "client_ca": "ca.pem",
        "client_certificate": "optional",
        "handshake_timeout_seconds": 4,
    },
}


def test_every_key_reaches_the_receiver(tmp_path: Path) -> None:
    peers = {
        "xray": {"ae_title": "XRAY", "host": "10.0.0.1", "port": 104, "needs_certificate": True},
        "pacs": {"ae_title": "PACS", "host": "10.0.0.2", "port": 104},
    }
    config = config_in(tmp_path, node=NODE, receive=RECEIVE, peers=peers)
    settings = receiver_settings(config)
    assert settings.tls is not None
    assert dataclasses.asdict(settings.tls) == {
        "certificate": tmp_path / "node.pem",
        "key": tmp_path / "node.key",
        "port": 2763,
        "client_ca": tmp_path / "ca.pem",
        "client_certificate": ClientCertificate.OPTIONAL,
        "handshake_timeout": 4,
    }
    assert dataclasses.replace(settings, tls=None) == ReceiverSettings(
        ae_titles=("AINODE", "OLDNAME"),
        host="127.0.0.1",
        port=11113,
        reuse_port=True,
        peers={"xray": config.peers["xray"]},
        check_addresses=True,
        certified_peers=frozenset({"XRAY"}),
        extra_sop_classes=("1.2.3",),
        max_associations=9,
        max_associations_per_peer=3,
        max_connections=77,
        max_pdu=64 * 1024,
        max_dataset=5 * 1024 * 1024,
        network_timeout=11,
        acse_timeout=12,
        min_free_bytes=7 * 1024 * 1024,
        reserve=6 * 1024 * 1024,
    )


def test_the_defaults_are_those_of_the_receiver(tmp_path: Path) -> None:
    config = config_in(tmp_path, node={"ae_title": "A", "data_dir": "data", "min_free_mb": 0})
    settings = receiver_settings(config)
    assert settings == ReceiverSettings(
        ae_titles=("A",),
        host="0.0.0.0",
        port=11112,
        peers=config.senders,
        reserve=320 * 1024 * 1024,  # a receiver by itself keeps none
    )


def test_anyone_may_send_only_by_that_word(tmp_path: Path) -> None:
    assert receiver_settings(config_in(tmp_path, accept_from="anyone")).promiscuous
    assert not receiver_settings(config_in(tmp_path, accept_from=["xray"])).promiscuous


@pytest.mark.parametrize(("soft", "hard", "expected"), [(100, 5000, 1280), (100, 500, 500)])
def test_as_many_open_files_are_allowed_as_connections_may_need(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, expected: int
) -> None:
    limits = [(soft, hard)]
    monkeypatch.setattr(roles.resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(roles.resource, "setrlimit", lambda _, new: limits.append(new))
    with capture_logs() as logs:
        roles._allow_descriptors(1280)
    assert limits[-1] == (expected, hard)
    assert [line["event"] for line in logs] == ["few_open_files_allowed"] * (expected < 1280)


def test_only_a_supervised_role_lets_the_receivers_go_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nice: list[int] = []
    monkeypatch.setattr(roles.os, "nice", nice.append)
    monkeypatch.delenv(SUPERVISED, raising=False)
    roles._yield_to_receivers(10)
    assert nice == []
    monkeypatch.setenv(SUPERVISED, "1")
    roles._yield_to_receivers(10)
    assert nice == [10]
