"""Archives that are asked to commit to what they were sent: Orthanc, and dcmqrscp that cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicom_node.delivery import (
    offers_commitment,
)
from dicom_node.demo.orthanc import Orthanc
from dicom_node.demo.ports import free_port
from tests.peers.calling import US
from tests.peers.committing import MakeSite, Site, sites
from tests.peers.dcmtk import running


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeSite]:
    with sites(tmp_path) as make:
        yield make


@contextmanager
def committing_orthanc(make: MakeSite, folder: Path) -> Iterator[tuple[Site, Orthanc]]:
    """A site, and an Orthanc that knows where to report to it."""
    port = free_port()
    site = make(port)
    with Orthanc(
        folder / "orthanc",
        ae_title="PACS",
        dicom_port=port,
        http_port=free_port(),
        modalities={"ainode": ("AINODE", "127.0.0.1", site.config.node.port)},
    ) as orthanc:
        yield site, orthanc


def test_orthanc_commits_by_an_association_to_our_receiver(make: MakeSite, tmp_path: Path) -> None:
    with committing_orthanc(make, tmp_path) as (site, orthanc):
        site.work_until("committed", "committed")
        assert len(orthanc.instances()) == 2
    assert len(site.events("commitment_asked")) == 2
    assert len(site.events("report_committed")) == 2
    (request,) = site.requests()
    assert [tuple(item) for item in request.references] == site.uids
    assert request.answer == "2 committed, 0 failed"


def test_what_orthanc_has_lost_is_sent_again(make: MakeSite, tmp_path: Path) -> None:
    with committing_orthanc(make, tmp_path) as (site, orthanc):
        assert site.sender.send_due() == 2
        lost = orthanc.instances()[0]
        orthanc.delete(f"/instances/{lost['ID']}")
        site.work_until("committed", "committed")
        assert len(orthanc.instances()) == 2
    (again,) = site.events("report_not_committed")
    assert again.data["sop_instance_uid"] == lost["SOPInstanceUID"]
    assert "not committed: 0x" in again.data["answer"]
    assert sorted(row.resent for row in site.deliveries()) == [0, 1]


def test_a_pacs_without_storage_commitment_is_told_once_and_not_asked_again(
    make: MakeSite, tmp_path: Path
) -> None:
    port = free_port()
    settings = tmp_path / "dcmqrscp.cfg"
    (tmp_path / "db").mkdir()
    settings.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 4\n"
        "HostTable BEGIN\nus = (AINODE, localhost, 1)\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nPACS {tmp_path / 'db'} RW (10, 1024mb) ANY\nAETable END\n"
    )
    site = make(port)
    with running("dcmqrscp", port, "-c", str(settings)):
        why = offers_commitment(US, site.config.dicom_peers["pacs"])
        assert why is not None
        assert "no storage commitment" in why
        site.work_until("sent", "sent")
        assert site.sender.work() == 2
        assert site.sender.work() == 0
    assert site.states() == ["sent", "sent"]
    for row in site.deliveries():
        assert row.answer is not None
        assert row.answer.startswith("status 0x0000 (Success); ")
        assert "the peer has no storage commitment" in row.answer
        assert (row.ask_at, row.asked) == (None, 0)
    assert len(site.events("commitment_not_offered")) == 2
    assert site.requests() == []
