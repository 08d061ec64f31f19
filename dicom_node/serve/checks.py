"""`dicom-node check`: everything that can be known before the node starts."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from dicom_node.config import NodeConfig
from dicom_node.config.hosts import HostsSection
from dicom_node.delivery import ScuSettings, destination_for, offers_commitment
from dicom_node.delivery.web_auth import is_open_to_others, secret_file
from dicom_node.hosts.client import HostClient
from dicom_node.inference.bundles import Bundle
from dicom_node.logs import error_facts
from dicom_node.model.peers import AnyPeer, WebPeer
from dicom_node.receive.server import TESTED_VERSIONS, is_tested_version
from dicom_node.receive.settings import TlsSettings
from dicom_node.receive.tls import server_context
from dicom_node.requestor import client_context
from dicom_node.routing.views import is_known
from dicom_node.secret import secret_of
from dicom_node.serve.disk import DiskLevel, disk_state
from dicom_node.serve.locks import holders
from dicom_node.serve.receiving import receiver_settings
from dicom_node.serve.remote.cluster import Cluster, require_ray
from dicom_node.store import hosts
from dicom_node.store.database import Database
from dicom_node.store.reserve import no_reserve


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
    """Look at everything, one check after another; changes nothing that a running node uses."""
    looks: list[tuple[str, Callable[[], Check]]] = [
        ("data_dir", partial(_folder, config)),
        ("disk", partial(_disk, config)),
        *([("reserve", partial(_reserve, config))] if config.receive.reserve_mb else []),
        ("database", partial(_database, config)),
        ("port", partial(_port, config)),
        ("tls", partial(_tls, config)),
        ("pynetdicom", _pynetdicom),
        ("device", partial(_device, config)),
        *([("ray", partial(_ray, config))] if config.inference.executor == "ray" else []),
        ("routes", partial(_routes, config)),
        ("accept_from", partial(_senders, config)),
    ]
    if config.hosts is not None:
        looks.append(("hosts", partial(_hosts, config, config.hosts)))
    for name in sorted({name for route in config.routes for name in route.run}):
        looks.append((f"pipeline {name}", partial(_pipeline, config, bundles[name])))
    for name, peer in config.peers.items():
        looks.append((f"peer {name}", partial(_peer, config, name, peer)))
    for name, look in looks:
        try:
            yield look()
        except Exception as error:  # noqa: BLE001 - the other checks are wanted all the same
            facts = error_facts(error)
            seen = facts.get("why") or f"{facts['error']} at {facts['where']}"
            fix = facts.get("fix", "report this as a mistake of dicom-node")
            yield Check(name, Level.FAIL, seen, fix)


def _folder(config: NodeConfig) -> Check:
    folder = config.node.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".check-{os.getpid()}"
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
    state = disk_state(config)
    fix = {
        DiskLevel.OK: "",
        DiskLevel.LOW: "free space soon",
        DiskLevel.FULL: "free space, or lower `node.min_free_mb`",
    }
    level = {DiskLevel.OK: Level.OK, DiskLevel.LOW: Level.WARN, DiskLevel.FULL: Level.FAIL}
    return Check("disk", level[state.level], state.seen, fix[state.level])


def _reserve(config: NodeConfig) -> Check:
    why = no_reserve(config.node.data_dir)
    if not why:
        return Check("reserve", Level.OK, "files can be made ready for images")
    return Check(
        "reserve",
        Level.WARN,
        f"no direct writes ({why}): images are kept as safely, but take longer",
        "put `node.data_dir` on ext4 or XFS, or set `receive.reserve_mb: 0`",
    )


def _database(config: NodeConfig) -> Check:
    """Say which revision the tables have; bringing them up to date is left to `serve`."""
    database = Database(config.database_url)
    kind = "SQLite"
    try:
        if database.is_postgres:
            kind = f"PostgreSQL {database.server_version()}"
        if database.file is not None and not database.file.exists():
            return Check("database", Level.OK, f"{kind}, made at the first start")
        current, needed = database.check_revision()
    finally:
        database.close()
    if current != needed:
        was = f"schema revision {current}" if current else "empty"
        return Check("database", Level.OK, f"{kind}, {was}; brought to {needed} at the next start")
    return Check("database", Level.OK, f"{kind}, schema revision {current}")


def _port(config: NodeConfig) -> Check:
    return _listening(config, "port", config.node.port)


def _tls(config: NodeConfig) -> Check:
    """Look at the TLS port, and whether certificate, key and CA can be used now."""
    tls = receiver_settings(config).tls
    if tls is None:
        return Check("tls", Level.OK, "off; images travel unencrypted (see `receive.tls`)")
    server_context(tls)
    return _listening(config, "tls", tls.port)


def _hosts(config: NodeConfig, section: HostsSection) -> Check:
    """Look at what files are served with, and whether the other hosts answer."""
    server_context(TlsSettings(section.certificate, section.key))
    secret_of(section.token_file)
    database = Database(config.database_url)
    try:
        if not database.is_postgres:
            fix = "name a PostgreSQL database in `node.database_url`"
            return Check("hosts", Level.FAIL, "SQLite is for one machine", fix)
        client = HostClient(section, database)
        try:
            others = _other_hosts(database, section.name)
            away = [
                f"{line.name} at {line.address}: {why}"
                for line in others
                if (why := client.ask(line.address))
            ]
        finally:
            client.close()
    finally:
        database.close()
    if away:
        fix = "start that host, or `dicom-node hosts forget` it when its disk is lost"
        return Check("hosts", Level.WARN, "; ".join(away), fix)
    if is_open_to_others(section.token_file):
        return Check(
            "hosts", Level.WARN, f"{section.token_file} can be read by every user", "chmod o-r"
        )
    seen = f"this one is {section.name}, found at {section.reached_at}; {len(others)} others answer"
    return Check("hosts", Level.OK, seen)


def _other_hosts(database: Database, name: str) -> list[hosts.HostLine]:
    current, needed = database.check_revision()
    if current != needed:
        return []  # before the first start of this version
    with database.read() as session:
        return [line for line in hosts.lines(session) if line.name != name]


def _listening(config: NodeConfig, name: str, port: int) -> Check:
    node = config.node
    where = f"{node.host}:{port}"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((node.host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return _port_in_use(config, name, where)
            why = error.strerror or str(error)
            fix = (
                "a port below 1024 needs CAP_NET_BIND_SERVICE; or choose a higher one"
                if error.errno == errno.EACCES
                else "correct `node.host`: it must be an address of this machine, or 0.0.0.0"
            )
            return Check(name, Level.FAIL, f"{where}: {why}", fix)
    titles = ", ".join(node.ae_title)
    return Check(name, Level.OK, f"{where} is free; we are called {titles}")


def _port_in_use(config: NodeConfig, name: str, where: str) -> Check:
    running = holders(config.node.data_dir)
    ours = [pid for role, pid in running.items() if role.startswith("receiver-")]
    key = "node.port" if name == "port" else "receive.tls.port"
    if not ours:
        return Check(
            name,
            Level.FAIL,
            f"{where} is in use by another program",
            f"find it with `ss -ltnp` and stop it, or choose another `{key}`",
        )
    titles = ", ".join(config.node.ae_title)
    seen = f"{where} is in use by this node (process {ours[0]}); we are called {titles}"
    return Check(name, Level.OK, seen)


def _pynetdicom() -> Check:
    tested = ", ".join(sorted(TESTED_VERSIONS))
    if is_tested_version():
        return Check("pynetdicom", Level.OK, f"version {tested}, on which the receiver was tested")
    return Check(
        "pynetdicom",
        Level.WARN,
        "a version that the receiver was not tested with: it is slower, and large images need "
        "memory",
        f"pip install pynetdicom=={tested}",
    )


def _device(config: NodeConfig) -> Check:
    import torch

    wanted = ", ".join(config.inference.device)
    if "cuda" in wanted and not torch.cuda.is_available():
        return Check(
            "device",
            Level.FAIL,
            f"`{wanted}` is wanted and no GPU can be used by PyTorch {torch.__version__}",
            "install the driver, or set `inference.device: auto`",
        )
    if wanted != "cpu" and torch.cuda.is_available():
        return Check("device", Level.OK, torch.cuda.get_device_name(0))
    return Check("device", Level.OK, f"CPU, {os.cpu_count()} cores")


def _ray(config: NodeConfig) -> Check:
    """Join the Ray cluster, and see whether it has room for an actor of each pipeline."""
    require_ray()
    cluster = Cluster(config.ray.address)
    cluster.join()
    try:
        seen = f"{config.ray.address}: {cluster.seen()}"
        for name in sorted({name for route in config.routes for name in route.run}):
            section = config.pipelines.get(name)
            pool = config.ray.of(section.ray if section is not None else None)
            for kind, wanted in (("CPU", pool.num_cpus), ("GPU", pool.num_gpus)):
                if wanted > cluster.largest(kind):
                    return Check(
                        "ray",
                        Level.WARN,
                        f"{seen}; no node has the {wanted:g} {kind} that {name} wants",
                        f"its jobs wait: add a node, or lower `num_{kind.lower()}s`",
                    )
        return Check("ray", Level.OK, seen)
    finally:
        cluster.leave()


def _routes(config: NodeConfig) -> Check:
    if not config.routes:
        return Check("routes", Level.WARN, "there is none: nothing will be run", "add a route")
    strange = sorted(
        f"`{view}` of route {route.name}"
        for route in config.routes
        for view in route.when.view or ()
        if not is_known(view)
    )
    if strange:
        seen = f"no view that we know: {', '.join(strange)}; only an image that says so meets it"
        fix = "write `view` as in docs/configure.md (AP, PA, lateral), or keep it if senders say so"
        return Check("routes", Level.WARN, seen, fix)
    return Check("routes", Level.OK, ", ".join(route.name for route in config.routes))


def _senders(config: NodeConfig) -> Check:
    if config.anyone_may_send:
        return Check("accept_from", Level.WARN, "anyone may send", "name the peers that may send")
    titles = ", ".join(f"{name} ({peer.ae_title})" for name, peer in config.senders.items())
    return Check("accept_from", Level.OK, titles)


def _pipeline(config: NodeConfig, bundle: Bundle) -> Check:
    name = f"pipeline {bundle.name}"
    bundle.verify_weights()
    own = config.pipelines.get(bundle.name)
    # on a Ray cluster they are loaded elsewhere, where other packages may be
    if own is not None and own.weights is not None and config.inference.executor != "ray":
        import torch

        from dicom_node.inference.parts import build_parts

        # a pipeline's new version may have other networks than a site's own weights were made for
        build_parts(bundle, torch.device("cpu"))
    seen = f"version {bundle.version}, weights {bundle.weights_sha256[:12]} verified"
    if bundle.demonstration:
        return Check(
            name,
            Level.WARN,
            f"{seen}; demonstration weights",
            "train on your own data before any use beside patients",
        )
    return Check(name, Level.OK, seen)


def _peer(config: NodeConfig, name: str, peer: AnyPeer) -> Check:
    if peer.tls is not None:
        client_context(peer.tls)
    scu = ScuSettings(config.node.ae_title[0], connect_timeout=5, acse_timeout=5, dimse_timeout=5)
    why = destination_for(scu, peer).check()
    if isinstance(peer, WebPeer):
        return _web_peer(name, peer, why)
    where = f"{peer.ae_title} at {peer.host}:{peer.port}"
    if why is None and peer.storage_commitment:
        why = offers_commitment(scu, peer)
    if why is None:
        by_tls = " by TLS" if peer.tls is not None else ""
        return Check(f"peer {name}", Level.OK, f"{where} answers C-ECHO{by_tls}")
    receives = any(name in route.send_to for route in config.routes)
    fix = "check host, port and AE titles on both sides, and the firewall between"
    if not receives:
        # a modality seldom answers; it need not, to send to us
        fix = "only if it should answer: check host, port and AE titles on both sides"
    return Check(f"peer {name}", Level.WARN, f"{where}: {why}", fix)


def _web_peer(name: str, peer: WebPeer, why: str | None) -> Check:
    what = f"peer {name}"
    secret = secret_file(peer)
    if secret is not None and secret.exists() and is_open_to_others(secret):
        return Check(
            what, Level.WARN, f"every user may read its secret {secret}", f"chmod 600 {secret}"
        )
    if why is not None:
        fix = "check the address, `auth` and `tls`, and the firewall between"
        return Check(what, Level.WARN, f"{peer.url}: {why}", fix)
    if secret is not None and peer.url.startswith("http:"):
        return Check(
            what,
            Level.WARN,
            f"{peer.url} answers, but the secret travels in plain text",
            "use https, unless the server is on this machine",
        )
    return Check(what, Level.OK, f"{peer.url} answers a search (QIDO-RS)")
