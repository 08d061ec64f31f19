"""The section `hosts` of `node.yaml`: several hosts, each with a data folder of its own."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from pydantic import Field, model_validator

from dicom_node.model.conditions import Strict

THIS_HOST: Final = "DICOM_NODE_HOST"
"""Environment variable with this host's name, for a node.yaml that all hosts have alike."""

_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,45}[A-Za-z0-9])?")


class HostsSection(Strict):
    """Several hosts, each with a data folder of its own; without it all share one.

    Attributes:
        this_host: What this host is called; None: `DICOM_NODE_HOST`, or the machine's name.
        address: Where the other hosts reach this one; None: its name.
        listen: Address that its files are served on.
        certificate: PEM file with the certificate for `address`, then those up to its root.
        key: PEM file with its private key, not encrypted.
        ca: PEM file that the other hosts' certificates are verified with.
        token_file: File with the secret that all hosts have alike.
        cache_mb: So much of other hosts' files each process keeps; 0: only what is in hand.
    """

    this_host: str | None = None
    address: str | None = Field(default=None, min_length=1)
    listen: str = "0.0.0.0"
    port: int = Field(default=11180, ge=1, le=65535)
    certificate: Path
    key: Path
    ca: Path
    token_file: Path
    cache_mb: int = Field(default=2048, ge=0)

    @property
    def name(self) -> str:
        """What this host is called."""
        return self.this_host or os.environ.get(THIS_HOST) or os.uname().nodename

    @model_validator(mode="after")
    def _is_a_name(self) -> HostsSection:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"{self.name!r} is no name of a host: up to 47 letters, digits, dots and hyphens"
            )
        return self

    @property
    def reached_at(self) -> str:
        """HOST:PORT where the other hosts find its files."""
        host = self.address or self.name
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
