"""`node.yaml` as pydantic models: every key, its default and its meaning in one place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from dicom_node.config.hosts import HostsSection
from dicom_node.config.ray import PoolSection, RaySection
from dicom_node.config.watching import AlertsSection, AuditSection
from dicom_node.config.web import WebSection
from dicom_node.model.conditions import OneOrMore, Strict
from dicom_node.model.identifiers import is_valid_uid
from dicom_node.model.peers import AETitle, AnyPeer, Peer
from dicom_node.model.routes import Route

DATABASE_URL: Final = "DICOM_NODE_DATABASE_URL"
"""Environment variable with the database's URL, for a node.yaml that names none."""


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _there(value: object) -> object:
    """A section that is named and left empty is there, with its defaults."""
    return {} if value is None else value


def _uid(value: str) -> str:
    if not is_valid_uid(value):
        raise ValueError(f"{value!r} is not a UID")
    return value


class NodeSection(Strict):
    """Who this node is and where it keeps things.

    Attributes:
        ae_title: Our AE title, or several; the first one signs what we send.
        host: Address to listen on; 0.0.0.0 is every interface.
        data_dir: Spool, reports and, by default, the database.
        database_url: SQLAlchemy URL; default: `DATABASE_URL`, or SQLite (WAL) in data_dir.
        min_free_mb: Refuse images (status 0xA700) when the disk has less free than this.
        warn_free_mb: Say so in log and status when it has less than this; default: twice
            `min_free_mb`.
        max_associations: Associations at a time, in each receiver process.
    """

    ae_title: Annotated[list[AETitle], BeforeValidator(_several), Field(min_length=1)]
    host: str = "0.0.0.0"
    port: int = Field(default=11112, ge=1, le=65535)
    data_dir: Path
    database_url: str | None = None
    min_free_mb: int = Field(default=1024, ge=0)
    warn_free_mb: int | None = Field(default=None, ge=0)
    max_associations: int = Field(default=64, ge=1)

    @property
    def warn_below_mb(self) -> int:
        return 2 * self.min_free_mb if self.warn_free_mb is None else self.warn_free_mb

    @model_validator(mode="after")
    def _warns_before_it_refuses(self) -> NodeSection:
        if self.warn_below_mb < self.min_free_mb:
            raise ValueError("`warn_free_mb` is less than `min_free_mb`: no warning would come")
        return self


class TlsSection(Strict):
    """TLS 1.2 and 1.3 (BCP 195) on a port of its own, beside the plain one.

    Attributes:
        port: 2762 is the standard's (PS3.8 section 9.1.2).
        certificate: PEM file with our certificate, then those between it and its root.
        key: PEM file with its private key, not encrypted.
        client_ca: PEM file that client certificates are verified with.
        client_certificate: Whether callers on this port have to show one; a single peer may
            be asked for one by `needs_certificate` in `peers`.
    """

    port: int = Field(default=2762, ge=1, le=65535)
    certificate: Path
    key: Path
    client_ca: Path | None = None
    client_certificate: Literal["none", "optional", "required"] = "none"
    handshake_timeout_seconds: float = Field(default=10, gt=0)

    @model_validator(mode="after")
    def _can_verify(self) -> TlsSection:
        if self.client_certificate != "none" and self.client_ca is None:
            raise ValueError("client certificates need a `client_ca` to be verified with")
        return self


class ReceiveSection(Strict):
    """How images are taken in; the defaults suit a modality or a PACS on a local network.

    Attributes:
        processes: Receivers that share the port (SO_REUSEPORT), for parallel associations.
        check_addresses: A peer must also come from its `host`.
        max_associations_per_peer: Of one calling AE title, in each process; 0: no own limit.
        max_connections: TCP connections in each process, those not yet associated included.
        max_pdu_kb: The longest PDU that we ask senders for.
        max_dataset_mb: A longer data set is refused with 0xA700; 0: no limit.
        reserve_mb: Files made ready for images, in each process; at most 1/64 of the free space.
        idle_seconds: An association on which nothing comes for so long is aborted.
        request_seconds: A connection without a whole association request is closed.
        sop_classes: Private SOP classes to store, beside all of the standard's.
    """

    processes: int = Field(default=1, ge=1, le=64)
    check_addresses: bool = False
    max_associations_per_peer: int = Field(default=0, ge=0)
    max_connections: int = Field(default=1024, ge=1)
    max_pdu_kb: int = Field(default=128, ge=4, le=1024)
    max_dataset_mb: int = Field(default=0, ge=0)
    reserve_mb: int = Field(default=320, ge=0, le=4096)
    idle_seconds: float = Field(default=120, gt=0)
    request_seconds: float = Field(default=30, gt=0)
    sop_classes: list[Annotated[str, AfterValidator(_uid)]] = Field(default_factory=list)
    tls: TlsSection | None = None


class SettleSection(Strict):
    """A study is settled when no image has come for `quiet_seconds`.

    Attributes:
        ask_peer: Name of a peer that is asked then how many images it has of the study; while it
            has more, the study waits.
        longest_wait_seconds: After so long beyond the quiet time it is settled all the same.
    """

    quiet_seconds: float = Field(default=60, gt=0)
    ask_peer: str | None = None
    longest_wait_seconds: float = Field(default=900, gt=0)


class RetrySection(Strict):
    """How often a failed step is tried again, and how long between.

    The wait doubles from `first_seconds` up to `longest_seconds`, with jitter.
    """

    first_seconds: float = Field(default=5, gt=0)
    longest_seconds: float = Field(default=900, gt=0)
    give_up_after_hours: float = Field(default=72, gt=0)


class InferenceSection(Strict):
    """Where pipelines run.

    Attributes:
        executor: "local": in the workers themselves; "ray": on a Ray cluster (section `ray`).
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:0" …; of several each worker
            takes the next one.
        workers: Worker processes; each loads every pipeline.
        threads: CPU threads of each worker; 0: all cores, shared among the workers.
        attempts: Tries before a job that raises is failed.
        lease_seconds: A worker that has not renewed its claim for so long has lost the job.
        time_limit_seconds: A job that takes longer is killed with its worker.
        max_memory_mb: A worker may take so much (RLIMIT_DATA); 0: no limit; default: three
            quarters of the machine's memory, shared among the workers; none on a GPU.
        cpu_fallback: A job that the GPU's memory cannot hold runs on the CPU.
        quarantine_after: A study whose jobs took down so many workers is held; 0: never.
        report_failures: A job that fails for good sends "processing failed" in place of a result.
        batch: So many waiting radiographs of one pipeline a worker takes at once.
        model_memory_mb: Weights that stay loaded in each worker; beyond it the pipeline that was
            used longest ago is put away until its next job; 0: all stay.
        deterministic: False lets a GPU choose its algorithms by speed.
        selftest: A worker runs each pipeline's golden input at its start; one that makes other
            findings of it than it should gets no jobs.
    """

    executor: Literal["local", "ray"] = "local"
    device: Annotated[list[str], BeforeValidator(_several), Field(min_length=1)] = ["auto"]
    workers: int = Field(default=1, ge=1, le=64)
    threads: int = Field(default=0, ge=0)
    attempts: int = Field(default=2, ge=1)
    lease_seconds: float = Field(default=60, gt=0)
    time_limit_seconds: float = Field(default=600, gt=0)
    max_memory_mb: int | None = Field(default=None, ge=0)
    cpu_fallback: bool = True
    quarantine_after: int = Field(default=3, ge=0)
    report_failures: bool = False
    batch: int = Field(default=8, ge=1)
    model_memory_mb: int = Field(default=0, ge=0)
    deterministic: bool = True
    selftest: bool = True

    def threads_of_worker(self) -> int:
        return self.threads or max(1, (os.cpu_count() or 1) // self.workers)


class PipelineSection(Strict):
    """What a site changes of a pipeline: its own weights, its own time limit, its Ray actors."""

    weights: Path | None = None
    time_limit_seconds: float | None = Field(default=None, gt=0)
    ray: PoolSection | None = None


class StudiesSection(Strict):
    """What becomes of studies that are not as they should be.

    Attributes:
        on_changed_patient: Images that name another patient than those before hold the study
            for a person ("hold"), or are only told in the audit trail ("process").
    """

    on_changed_patient: Literal["hold", "process"] = "hold"


class RetentionSection(Strict):
    """How long things are kept after a study is finished and its reports are delivered.

    Attributes:
        images_days: Then its images are removed; None: never.
        reports_days: The same of our result objects.
        records_days: The same of its rows in the database, the audit trail included.
        when_disk_low: Below `node.warn_free_mb` the oldest images go before their time.
        purge_committed: Images that a sender was told are committed may go, too.
    """

    images_days: float | None = Field(default=14, gt=0)
    reports_days: float | None = Field(default=90, gt=0)
    records_days: float | None = Field(default=None, gt=0)
    when_disk_low: bool = True
    purge_committed: bool = False

    @model_validator(mode="after")
    def _records_last_longest(self) -> RetentionSection:
        if self.records_days is not None:
            for name in ("images_days", "reports_days"):
                days = getattr(self, name)
                if days is None or days > self.records_days:
                    raise ValueError(
                        f"`records_days` is less than `{name}`: what is kept must be known"
                    )
        return self


class NodeConfig(Strict):
    """The whole of `node.yaml`.

    Attributes:
        accept_from: Names of the peers that may send to us, or "anyone" (an explicit word).
        pipelines_path: Folders with a site's own pipelines, looked at before the built-in ones.
        web: The dashboard; without the section there is none.
        hosts: Each host has a data folder of its own; without the section all share one.
        ray: The Ray cluster, for `inference.executor: ray`.
    """

    node: NodeSection
    peers: dict[str, AnyPeer] = Field(default_factory=dict)
    accept_from: OneOrMore
    receive: ReceiveSection = ReceiveSection()
    settle: SettleSection = SettleSection()
    retry: RetrySection = RetrySection()
    inference: InferenceSection = InferenceSection()
    studies: StudiesSection = StudiesSection()
    retention: RetentionSection = RetentionSection()
    alerts: AlertsSection = AlertsSection()
    audit: AuditSection | None = None
    web: Annotated[WebSection | None, BeforeValidator(_there)] = None
    hosts: HostsSection | None = None
    ray: RaySection = RaySection()
    pipelines: dict[str, PipelineSection] = Field(default_factory=dict)
    pipelines_path: list[Path] = Field(default_factory=list)
    routes: list[Route] = Field(default_factory=list)

    @property
    def anyone_may_send(self) -> bool:
        return self.accept_from == ["anyone"]

    @property
    def senders(self) -> dict[str, Peer]:
        """The peers that may send to us; empty when anyone may."""
        if self.anyone_may_send:
            return {}
        return {name: self.dicom_peers[name] for name in self.accept_from}

    @property
    def dicom_peers(self) -> dict[str, Peer]:
        """The peers that have an AE title: all but those with a `url`."""
        return {name: peer for name, peer in self.peers.items() if isinstance(peer, Peer)}

    @property
    def database_url(self) -> str:
        """Of the file, of the environment, or of SQLite in the data folder."""
        here = f"sqlite:///{self.node.data_dir / 'node.sqlite3'}"
        return self.node.database_url or os.environ.get(DATABASE_URL) or here

    @property
    def this_host(self) -> str | None:
        """What this host is called among those that each have a data folder; None: all share."""
        return self.hosts.name if self.hosts is not None else None

    @property
    def spool_dir(self) -> Path:
        return self.node.data_dir / "spool"

    @property
    def tuning_dir(self) -> Path:
        """Where `pipelines tune` leaves its choices for the workers."""
        return self.node.data_dir / "tuning"

    @property
    def reports_dir(self) -> Path:
        return self.node.data_dir / "reports"

    @model_validator(mode="after")
    def _certificates_can_be_shown(self) -> NodeConfig:
        tls = self.receive.tls
        asked = [name for name, peer in self.dicom_peers.items() if peer.needs_certificate]
        if asked and (tls is None or tls.client_certificate == "none"):
            raise ValueError(
                f"peer {asked[0]} needs a certificate, but `receive.tls` asks for none: "
                "set its `client_certificate` to optional or required"
            )
        if tls is not None and tls.port == self.node.port:
            raise ValueError(f"`receive.tls.port` and `node.port` are both {tls.port}")
        return self

    @model_validator(mode="after")
    def _pools_fit(self) -> NodeConfig:
        for name, section in self.pipelines.items():
            pool = self.ray.of(section.ray)
            if pool.min_actors > pool.max_actors:
                raise ValueError(f"`pipelines.{name}.ray`: `min_actors` is more than `max_actors`")
        return self

    @model_validator(mode="after")
    def _reports_are_let_in(self) -> NodeConfig:
        for name, peer in self.dicom_peers.items():
            let_in = self.anyone_may_send or name in self.accept_from
            if peer.storage_commitment and not let_in:
                raise ValueError(
                    f"peer {name} has `storage_commitment`: it reports by an association of "
                    "its own, so name it in `accept_from`, too"
                )
        return self

    @model_validator(mode="after")
    def _unique_route_names(self) -> NodeConfig:
        names = [route.name for route in self.routes]
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise ValueError(f"two routes have the same name: {', '.join(double)}")
        return self
