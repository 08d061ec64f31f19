"""A small Orthanc on loopback with its own folder: the PACS of the demo and of the tests."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dicom_node.errors import NodeError


class Orthanc:
    """Runs Debian's Orthanc as a PACS; a context manager.

    Args:
        folder: Its configuration, log and storage go here; kept between two starts.
        modalities: AE title, host and port of those it may send to, by name.
        settings: Orthanc's own, over ours.
        user: Name and password that HTTP takes; None: no password is asked for.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ae_title: str,
        dicom_port: int,
        http_port: int,
        modalities: Mapping[str, tuple[str, str, int]] | None = None,
        plugins: tuple[Path, ...] = (),
        settings: Mapping[str, Any] | None = None,
        user: tuple[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.ae_title = ae_title
        self.dicom_port = dicom_port
        self.http_port = http_port
        pair = base64.b64encode(":".join(user).encode()).decode("ascii") if user else ""
        self._headers = {"Authorization": f"Basic {pair}"} if user else {}
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = {
            "Name": "PACS",
            "DicomAet": ae_title,
            "DicomPort": dicom_port,
            "HttpPort": http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": user is not None,
            "RegisteredUsers": dict([user] if user is not None else []),
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowStore": True,
            "UnknownSopClassAccepted": True,
            "OverwriteInstances": False,
            "Plugins": [str(plugin) for plugin in plugins],
            "DicomModalities": {
                name: {"AET": aet, "Host": host, "Port": port}
                for name, (aet, host, port) in (modalities or {}).items()
            },
            **(settings or {}),
        }

    @staticmethod
    def program() -> str | None:
        """Return the path of the Orthanc program, if it is installed."""
        return shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            NodeError: It is not installed, or ended at once.
        """
        program = self.program()
        if program is None:
            raise NodeError("Orthanc", "it is not installed", "apt-get install orthanc")
        (self.folder / "storage").mkdir(parents=True, exist_ok=True)
        settings = self.folder / "orthanc.json"
        settings.write_text(json.dumps(self._settings, indent=1))
        with (self.folder / "orthanc.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, str(settings)], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                self.get("/system")
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
            else:
                return
        self.stop()
        raise NodeError(
            "Orthanc", "it did not start", f"read {self.folder / 'orthanc.log'} for the reason"
        )

    def stop(self, *, kill: bool = False) -> None:
        """End it, gently or by SIGKILL."""
        if self._process is not None:
            (self._process.kill if kill else self._process.terminate)()
            self._process.wait()
            self._process = None

    def get(self, path: str) -> Any:
        """GET a path of the REST interface; returns the parsed JSON."""
        return json.loads(self.fetch(path))

    def fetch(self, path: str) -> bytes:
        """GET a path of the REST interface; returns the bytes."""
        url = f"http://127.0.0.1:{self.http_port}{path}"
        asked = urllib.request.Request(url, headers=self._headers)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return bytes(answer.read())

    def delete(self, path: str) -> None:
        """DELETE a path of the REST interface."""
        url = f"http://127.0.0.1:{self.http_port}{path}"
        asked = urllib.request.Request(url, headers=self._headers, method="DELETE")
        urllib.request.urlopen(asked, timeout=30).close()

    def instances(self) -> list[dict[str, Any]]:
        """Return the main tags of every stored instance, with its Orthanc id under "ID"."""
        found: list[dict[str, Any]] = []
        for item in self.get("/instances?expand"):
            parent = self.get(f"/series/{item['ParentSeries']}")
            study = self.get(f"/studies/{parent['ParentStudy']}")
            found.append(
                {
                    "ID": item["ID"],
                    **study["MainDicomTags"],
                    **parent["MainDicomTags"],
                    **item["MainDicomTags"],
                }
            )
        return found

    def file(self, instance_id: str) -> bytes:
        """Return an instance's DICOM file."""
        return self.fetch(f"/instances/{instance_id}/file")
