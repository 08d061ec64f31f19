"""Hosts with a data folder each: the way to their files, and what a study waits for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from dicom_node.config import NodeConfig
from dicom_node.config.schema import SettleSection
from dicom_node.hosts.client import HostClient
from dicom_node.hosts.files import Files
from dicom_node.store import hosts
from dicom_node.store.database import Database
from dicom_node.store.hosts import HostLine
from dicom_node.store.kept import KeptKind
from dicom_node.store.tables import Study

_MIB = 1024 * 1024

Ready = Callable[[Study], Mapping[str, Any] | None]
"""What the audit trail is to say of a quiet study that may settle; None: it has to wait."""


def files_of(config: NodeConfig, database: Database) -> Files:
    """Return the way to every file, wherever it is.

    Raises:
        ConfigError: A file that `hosts` names cannot be used.
    """
    folders = {KeptKind.INSTANCE: config.spool_dir, KeptKind.REPORT: config.reports_dir}
    section = config.hosts
    if section is None:
        return Files(folders)
    return Files(
        folders,
        section.name,
        HostClient(section, database),
        config.node.data_dir / "fetched",
        section.cache_mb * _MIB,
    )


def after_all_hosts(
    lines: Sequence[HostLine], now: datetime, settle: SettleSection, ready: Ready
) -> Ready:
    """Let a study wait for what a host has acknowledged and not indexed yet; not for ever.

    Args:
        ready: What it waits for besides.
    """
    quiet = timedelta(seconds=settle.quiet_seconds)
    longest = timedelta(seconds=settle.longest_wait_seconds)

    def ready_on_all(study: Study) -> Mapping[str, Any] | None:
        missing = hosts.unindexed(lines, study, now, quiet)
        if missing is not None and now < study.last_instance_at + quiet + longest:
            return None
        known = ready(study)
        return known if known is None or missing is None else {**known, "without_host": missing}

    return ready_on_all
