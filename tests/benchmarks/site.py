"""The whole node for benchmarks: its database, its peer, and the films that are sent to it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydicom.dataset import FileDataset

from dicom_node.demo.phantom_studies import radiograph_study
from dicom_node.demo.ports import free_port
from pipelines.phantoms.knee import knee_radiograph
from tests.peers import dcmtk
from tests.peers.node import INFERENCE, Node
from tests.peers.postgres import running_postgres
from tests.unit.inference.tiny_bundles import write_bundle

DATABASES: Final = ("sqlite", "postgresql")
KNEE, HAND = "KNEE", "HAND"
"""Body parts: a knee is for `knee_kl_ensemble`, a hand for a tiny pipeline."""

_DURABLE = {"fsync": "on", "full_page_writes": "on", "autovacuum": "on", "synchronous_commit": "on"}
_ROUTES = tuple(
    {
        "name": part.lower(),
        "when": {"modality": "DX", "body_part": part.lower()},
        "run": [pipeline],
        "send_to": ["pacs"],
    }
    for part, pipeline in ((KNEE, "knee_kl_ensemble"), (HAND, "tiny"))
)


@contextlib.contextmanager
def running_site(
    folder: Path, database: str, *, inference: dict[str, Any] | None = None, **sections: Any
) -> Iterator[Node]:
    """Start it with a durable database; storescp takes the reports and keeps none."""
    write_bundle(folder / "pipelines", "tiny", input={"kind": "radiograph", "when": {}})
    port = free_port()
    with contextlib.ExitStack() as stack:
        url = None
        if database == "postgresql":
            url = stack.enter_context(running_postgres(**_DURABLE)).url()
        stack.enter_context(dcmtk.running_storescp(folder / "pacs", port, "--ignore"))
        node = Node(
            folder / "node",
            port,
            routes=_ROUTES,
            database_url=url,
            pipelines_path=[str(folder / "pipelines")],
            accept_from="anyone",
            inference={**INFERENCE, "lease_seconds": 60, **(inference or {})},
            **sections,
        )
        stack.callback(node.close)
        node.start()
        yield node


class Films:
    """Makes films: a few pictures, again and again as new patients."""

    def __init__(self) -> None:
        noise = np.random.default_rng(7)
        self._hand = noise.integers(0, 4000, (512, 384)).astype(np.uint16)
        self._knees = [knee_radiograph(seed, seed + 1).image for seed in range(3)]

    def make(self, part: str, key: str, number: int) -> FileDataset:
        """Return a film of a part; the same key, the same study."""
        pixels = self._knees[number % len(self._knees)] if part == KNEE else self._hand
        (image,) = radiograph_study(
            pixels, 0.25, key=key, body_part=part, description="load", laterality="R"
        )
        return image

    def send(self, node: Node, file: Path, part: str, key: str, number: int) -> bool:
        """Send one from one of three modalities, over `file`; True: the node has it."""
        self.make(part, key, number).save_as(file, enforce_file_format=True)
        titles = ("-aet", f"XRAY{number % 3}", "-aec", "AINODE")
        return dcmtk.storescu(node.port, [file], *titles).returncode == 0
