"""DCMTK's dcmqrscp as an archive: C-FIND, C-MOVE and C-GET."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from dicom_node.demo.ports import free_port
from tests.peers.dcmtk import ENVIRONMENT, program
from tests.peers.ports import listens, wait_for


class Dcmqrscp:
    """Runs it on a loopback port; a context manager.

    Args:
        folder: Its configuration, log and images go here.
        destinations: AE title and port of those that it knows, by name; it sends to no other.
    """

    def __init__(
        self, folder: Path, destinations: Mapping[str, tuple[str, int]], *options: str
    ) -> None:
        self.port = free_port()
        self.ae_title = "ARCHIVE"
        self.log = folder / "dcmqrscp.log"
        self._options = options
        self._settings = folder / "dcmqrscp.cfg"
        store = folder / "images"
        store.mkdir(parents=True, exist_ok=True)
        hosts = [f"{n} = ({ae}, 127.0.0.1, {port})" for n, (ae, port) in destinations.items()]
        self._settings.write_text(
            "\n".join(
                [
                    f"NetworkTCPPort = {self.port}",
                    "MaxPDUSize = 16384",
                    "MaxAssociations = 16",
                    "HostTable BEGIN",
                    *hosts,
                    "HostTable END",
                    "VendorTable BEGIN",
                    "VendorTable END",
                    "AETable BEGIN",
                    f"{self.ae_title} {store} RW (500, 1024mb) ANY",
                    "AETable END",
                    "",
                ]
            )
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [program("dcmqrscp"), "-v", *self._options, "-c", str(self._settings)],
                env=ENVIRONMENT,
                stdout=log,
                stderr=log,
            )
        wait_for("dcmqrscp", lambda: listens(self.port))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
