"""What the pages work with: the node's configuration, its pipelines, its database, its clock."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dicom_node.clock import Clock
from dicom_node.config import NodeConfig
from dicom_node.config.web import WebSection
from dicom_node.hosts.files import Files
from dicom_node.inference.bundles import Bundle
from dicom_node.serve.sharing import files_of
from dicom_node.store.database import Database


@dataclass
class WebContext:
    """One per process; read it anew at each request, for a reload replaces `config`.

    Attributes:
        config: As `config_file` was when it was read last.
        stop: Set when the process is to end: streams end then.
    """

    config_file: Path
    config: NodeConfig
    bundles: Mapping[str, Bundle]
    database: Database
    clock: Clock
    stop: threading.Event = field(default_factory=threading.Event)

    @cached_property
    def files(self) -> Files:
        """The way to objects, whichever host holds them; `hosts` is taken at the start only.

        Raises:
            ConfigError: A file that `hosts` names cannot be used.
        """
        return files_of(self.config, self.database)

    @property
    def web(self) -> WebSection:
        """The section `web`, or what it would be."""
        return self.config.web or WebSection()
