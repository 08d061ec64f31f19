"""One node and its PACS for the tests that only look at what comes out of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dicom_node.demo.orthanc import Orthanc
from tests.peers.node import INFERENCE, Node, running_node, running_pacs

DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass(frozen=True)
class Site:
    """A running node and the PACS that its reports go to."""

    node: Node
    pacs: Orthanc


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The node with its three pipelines, and Orthanc with DICOMweb."""
    folder = tmp_path_factory.mktemp("site")
    assert DICOMWEB.exists(), "orthanc-dicomweb is not installed: `make test` installs it"
    with (
        running_pacs(folder / "pacs", plugins=(DICOMWEB,)) as pacs,
        running_node(
            folder / "node", pacs.dicom_port, inference={**INFERENCE, "selftest": True}
        ) as node,
    ):
        yield Site(node, pacs)
