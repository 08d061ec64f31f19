"""Hosts of one node, each with a data folder of its own: some roles each, as real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from dicom_node.config import load_config
from dicom_node.demo.ports import free_port
from dicom_node.demo.routes import ROUTES
from tests.peers.certificates import Certificates
from tests.peers.node import INFERENCE
from tests.peers.ports import wait_for

TOKEN: Final = "known to all hosts of the tests"


class Host:
    """A host: its folder, its name, the roles that run there.

    Args:
        sections: Of node.yaml, over those that all hosts of a test have.
    """

    def __init__(
        self,
        folder: Path,
        roles: Sequence[str],
        *,
        database_url: str,
        certificates: Certificates,
        pacs_port: int,
        **sections: Any,
    ) -> None:
        self.name = folder.name
        self.roles = list(roles)
        self.port = free_port()
        self.data = folder / "data"
        self.log = folder / "log"
        self.config_file = folder / "node.yaml"
        folder.mkdir(parents=True)
        token = folder / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        config: Mapping[str, Any] = {
            "node": {
                "ae_title": "AINODE",
                "host": "127.0.0.1",
                "port": self.port,
                "data_dir": "data",
                "min_free_mb": 1,
                "database_url": database_url,
            },
            "hosts": {
                "this_host": self.name,
                "address": "127.0.0.1",
                "listen": "127.0.0.1",
                "port": free_port(),
                "certificate": str(certificates.server.certificate),
                "key": str(certificates.server.key),
                "ca": str(certificates.ca.certificate),
                "token_file": "token",
            },
            "peers": {
                "pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": pacs_port},
                "xray": {"ae_title": "STORESCU", "host": "127.0.0.1", "port": 104},
            },
            "accept_from": ["pacs", "xray"],
            "settle": {"quiet_seconds": 1},
            "retry": {"first_seconds": 0.5, "longest_seconds": 2},
            "inference": dict(INFERENCE),
            "routes": [dict(ROUTES[0])],
            **sections,
        }
        self.config_file.write_text(yaml.safe_dump(config, sort_keys=False))
        self.config = load_config(self.config_file)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *roles: str) -> None:
        """Start some of its roles, or all."""
        for role in roles or self.roles:
            with self.log.open("ab") as log:
                self._processes[role] = subprocess.Popen(
                    [
                        *(sys.executable, "-m", "dicom_node", "serve", "--role", role),
                        *("--config", str(self.config_file)),
                    ],
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                )

    def wait_for_log(self, event: str, times: int = 1) -> None:
        """Wait until the log of its roles has an event so often."""

        def there() -> bool:
            for role, process in self._processes.items():
                assert process.poll() is None, f"{self.name} {role}: {self.said()}"
            return self.log.read_text().count(event) >= times

        try:
            wait_for(f"{event} of {self.name}", there, 120)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.said()}") from None

    def kill(self, *roles: str) -> None:
        """SIGKILL to some of its roles, or to all of them at once."""
        for role in roles or tuple(self._processes):
            self._processes[role].send_signal(signal.SIGKILL)
        for role in roles or tuple(self._processes):
            self._processes.pop(role).wait()

    def stop(self) -> None:
        """End its roles in order."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def cli(self, *arguments: str) -> str:
        """Return what another `dicom-node` command prints on this host."""
        done = subprocess.run(
            [sys.executable, "-m", "dicom_node", *arguments, "--config", str(self.config_file)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "COLUMNS": "200"},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def said(self) -> str:
        return self.log.read_text()[-4000:] if self.log.exists() else ""
