"""`dicom-node check`: everything that can be known before the node starts."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from dicom_node.config import NodeConfig
from dicom_node.delivery import ScuSettings, echo
from dicom_node.errors import NodeError
from dicom_node.inference.bundles import Bundle
from dicom_node.store.database import Database


class Level(StrEnum):
    """How a check ended; only FAIL keeps the node from working."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: what was seen, and how to mend it."""

    name: str
    level: Level
    seen: str
    fix: str = ""


def check_all(config: NodeConfig, bundles: Mapping[str, Bundle]) -> Iterator[Check]:
    """Look at everything, one check after another."""
    yield _folder(config)
    yield _disk(config)
    yield _database(config)
    yield _port(config)
    yield _device(config)
    for name in sorted({name for route in config.routes for name in route.run}):
        yield _pipeline(bundles[name])
    if config.anyone_may_send:
        yield Check("accept_from", Level.WARN, "anyone may send", "name the peers that may send")
    scu = ScuSettings(config.node.ae_title[0], connect_timeout=5, acse_timeout=5)
    for name, peer in config.peers.items():
        why = echo(scu, peer)
        where = f"{peer.ae_title} at {peer.host}:{peer.port}"
        if why is None:
            yield Check(f"peer {name}", Level.OK, f"{where} answers C-ECHO")
        else:
            yield Check(
                f"peer {name}",
                Level.WARN,
                f"{where}: {why}",
                "check host, port and AE titles on both sides, and the firewall between",
            )


def _folder(config: NodeConfig) -> Check:
    folder = config.node.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".check"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        return Check(
            "data_dir",
            Level.FAIL,
            f"{folder}: {error.strerror}",
            f"let user {os.getuid()} write there, or name another folder",
        )
    return Check("data_dir", Level.OK, f"{folder} can be written")


def _disk(config: NodeConfig) -> Check:
    folder = config.node.data_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free // (1024 * 1024)
    wanted = config.node.min_free_mb
    seen = f"{free} MiB free, images are refused below {wanted} MiB"
    if free < wanted:
        return Check("disk", Level.FAIL, seen, "free space, or lower `node.min_free_mb`")
    return Check("disk", Level.OK, seen)


def _database(config: NodeConfig) -> Check:
    try:
        database = Database(config.database_url)
        database.migrate()
        current, _ = database.revision()
        database.close()
    except (NodeError, OSError) as error:
        why = error.why if isinstance(error, NodeError) else str(error.strerror)
        return Check("database", Level.FAIL, why, "check `node.database_url`")
    kind = "SQLite" if database.is_sqlite else "server"
    return Check("database", Level.OK, f"{kind}, schema revision {current}")


def _port(config: NodeConfig) -> Check:
    node = config.node
    where = f"{node.host}:{node.port}"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((node.host, node.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return Check(
                    "port",
                    Level.WARN,
                    f"{where} is in use (by this node, if it runs)",
                    "stop the other program, or choose another `node.port`",
                )
            return Check(
                "port",
                Level.FAIL,
                f"{where}: {error.strerror}",
                "a port below 1024 needs the right CAP_NET_BIND_SERVICE; or choose another",
            )
    titles = ", ".join(node.ae_title)
    return Check("port", Level.OK, f"{where} is free; we are called {titles}")


def _device(config: NodeConfig) -> Check:
    import torch

    wanted = config.inference.device
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        return Check(
            "device",
            Level.FAIL,
            f"`{wanted}` is wanted and no GPU can be used by PyTorch {torch.__version__}",
            "install the driver, or set `inference.device: auto`",
        )
    if wanted != "cpu" and torch.cuda.is_available():
        return Check("device", Level.OK, torch.cuda.get_device_name(0))
    return Check("device", Level.OK, f"CPU, {os.cpu_count()} cores")


def _pipeline(bundle: Bundle) -> Check:
    name = f"pipeline {bundle.name}"
    try:
        bundle.verify_weights()
    except NodeError as error:
        return Check(name, Level.FAIL, f"{error.what}: {error.why}", error.fix)
    seen = f"version {bundle.version}, weights {bundle.weights_sha256[:12]} as in the manifest"
    if bundle.demonstration:
        return Check(
            name,
            Level.WARN,
            f"{seen}; demonstration weights",
            "train on your own data before any use beside patients",
        )
    return Check(name, Level.OK, seen)
