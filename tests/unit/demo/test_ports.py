"""Ports for servers of the demonstration and of tests."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dicom_node.demo import ports
from dicom_node.demo.ports import free_port


def test_a_free_port_can_be_listened_on_and_is_none_that_the_system_gives_away() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    port = free_port()
    assert port < lowest
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))


def test_a_port_that_is_taken_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setattr(ports, "RANGE", range(port, port + 1))
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        with pytest.raises(OSError, match="no port from"):
            free_port()
    assert free_port() == port
