"""A node that runs takes other peers and routes; nobody who is in notices."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import DigitalXRayImageStorageForPresentation, Verification
from sqlalchemy import select

from dicom_node.demo.ports import free_port
from dicom_node.requestor import keep_answers
from dicom_node.store import configurations
from dicom_node.store.tables import AuditEvent
from tests.factories import radiograph
from tests.peers.node import Node, running_node
from tests.peers.ports import wait_for

NO_RUN = [
    {
        "name": "hands",
        "when": {"modality": "DX", "body_part": "hand"},
        "run": ["knee_kl_ensemble"],
        "send_to": ["pacs"],
    }
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running_node(tmp_path_factory.mktemp("reload"), free_port(), routes=NO_RUN) as node:
        yield node


def call(node: Node, title: str) -> Association:
    ae = AE(title)
    ae.add_requested_context(Verification)
    ae.add_requested_context(DigitalXRayImageStorageForPresentation)
    association = ae.associate("127.0.0.1", node.port, ae_title="AINODE")
    if association.is_established:
        keep_answers(association)
    return association


def gets_in(node: Node, title: str) -> bool:
    association = call(node, title)
    was_in = association.is_established
    if was_in:
        association.release()
    return was_in


def change(node: Node, **peers: str | None) -> None:
    """Write node.yaml with other senders; None removes one."""
    held = yaml.safe_load(node.config_file.read_text())
    for name, title in peers.items():
        if title is None:
            del held["peers"][name]
            held["accept_from"].remove(name)
        else:
            held["peers"][name] = {"ae_title": title, "host": "127.0.0.1", "port": 104}
            held["accept_from"].append(name)
    node.config_file.write_text(yaml.safe_dump(held, sort_keys=False))


def taken(node: Node) -> int:
    """How many roles have taken another configuration."""
    return node.log.read_text().count('"configuration_taken"')


def roles_alive(node: Node) -> dict[str, int | None]:
    return {role: node.pid_of(role) for role in ("receiver", "coordinator", "worker")}


def test_an_association_that_is_open_goes_on_and_the_new_peers_count(node: Node) -> None:
    wait_for("the worker", lambda: '"pipeline_loaded"' in node.log.read_text(), 120)
    before = roles_alive(node)
    image = radiograph()
    open_one = call(node, "STORESCU")
    assert open_one.is_established
    assert not gets_in(node, "NEWCOMER")

    change(node, newcomer="NEWCOMER", xray=None)
    told = node.cli("reload")

    assert told.returncode == 0, told.stdout + told.stderr
    assert "the node has taken it" in told.stdout
    wait_for("the three roles", lambda: taken(node) == 3, 60)
    assert open_one.is_established
    assert open_one.send_c_store(image).Status == 0x0000
    open_one.release()
    assert gets_in(node, "NEWCOMER")
    assert not gets_in(node, "STORESCU")
    wait_for("the study", lambda: image.StudyInstanceUID in node.studies(), 60)
    assert roles_alive(node) == before


def test_a_file_with_mistakes_changes_nothing_and_is_shown(node: Node) -> None:
    good = node.config_file.read_text()
    before = roles_alive(node)
    node.config_file.write_text(good.replace("settle:", "setle:"))
    try:
        told = node.cli("reload")
        assert told.returncode == 2
        assert "did you mean `settle`?" in told.stdout
        assert "goes on with what it had" in told.stdout
        status = node.cli("status")
        assert status.returncode == 0, status.stderr
        assert "node.yaml has mistakes" in status.stdout
        assert "did you mean `settle`?" in status.stdout
        assert '"configuration_refused"' in node.log.read_text()
        with node.database.read() as session:
            last = configurations.last_reload(session)
            assert last is not None
            assert not last.taken
            refused = session.scalars(
                select(AuditEvent).where(AuditEvent.kind == "configuration_refused")
            ).all()
            assert "settle" in refused[-1].data["why"]
        # it is not the end of a role that dies meanwhile, either
        node.kill_role("receiver")
        wait_for("another receiver", lambda: gets_in(node, "NEWCOMER"), 60)
        after = roles_alive(node)
        assert (after["coordinator"], after["worker"]) == (before["coordinator"], before["worker"])
    finally:
        node.config_file.write_text(good)
    assert node.cli("reload").returncode == 0
    assert "has mistakes" not in node.cli("status").stdout


def test_what_needs_a_restart_is_said_and_the_rest_is_taken(node: Node) -> None:
    good = node.config_file.read_text()
    held = yaml.safe_load(good)
    held["node"]["port"] = free_port()
    held["peers"]["third"] = {"ae_title": "THIRD", "host": "127.0.0.1", "port": 104}
    held["accept_from"].append("third")
    node.config_file.write_text(yaml.safe_dump(held, sort_keys=False))
    try:
        told = node.cli("reload")
        assert told.returncode == 0, told.stdout
        assert "needs a restart: node.port" in told.stdout
        wait_for("the receiver on its old port", lambda: gets_in(node, "THIRD"), 60)
        assert "restart the node to take node.port" in node.cli("status").stdout
    finally:
        node.config_file.write_text(good)


def test_sighup_does_the_same(node: Node) -> None:
    change(node, by_signal="SIGNALLED")
    pid = int((Path(node.config.node.data_dir) / "locks" / "supervisor").read_text())
    os.kill(pid, signal.SIGHUP)
    wait_for("the new peer", lambda: gets_in(node, "SIGNALLED"), 60)
