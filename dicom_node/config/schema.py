"""`node.yaml` as pydantic models: every key, its default and its meaning in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from dicom_node.model.conditions import OneOrMore, Strict
from dicom_node.model.identifiers import is_valid_uid
from dicom_node.model.peers import AETitle, Peer
from dicom_node.model.routes import Route


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


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
        database_url: SQLAlchemy URL; default: SQLite (WAL) in data_dir.
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
    idle_seconds: float = Field(default=120, gt=0)
    request_seconds: float = Field(default=30, gt=0)
    sop_classes: list[Annotated[str, AfterValidator(_uid)]] = Field(default_factory=list)
    tls: TlsSection | None = None


class SettleSection(Strict):
    """A study is settled when no image has come for `quiet_seconds`."""

    quiet_seconds: float = Field(default=60, gt=0)


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
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:0" …
        threads: CPU threads of the worker; 0: all cores.
        attempts: Tries before a job that raises is failed.
        lease_seconds: A worker that has not renewed its claim for so long has lost the job.
    """

    device: str = "auto"
    threads: int = Field(default=0, ge=0)
    attempts: int = Field(default=2, ge=1)
    lease_seconds: float = Field(default=60, gt=0)


class PipelineSection(Strict):
    """What a site changes of a pipeline: its own weights, by one line."""

    weights: Path | None = None


class NodeConfig(Strict):
    """The whole of `node.yaml`.

    Attributes:
        accept_from: Names of the peers that may send to us, or "anyone" (an explicit word).
        pipelines_path: Folders with a site's own pipelines, looked at before the built-in ones.
    """

    node: NodeSection
    peers: dict[str, Peer] = Field(default_factory=dict)
    accept_from: OneOrMore
    receive: ReceiveSection = ReceiveSection()
    settle: SettleSection = SettleSection()
    retry: RetrySection = RetrySection()
    inference: InferenceSection = InferenceSection()
    pipelines: dict[str, PipelineSection] = Field(default_factory=dict)
    pipelines_path: list[Path] = Field(default_factory=list)
    routes: list[Route] = Field(default_factory=list)

    @property
    def anyone_may_send(self) -> bool:
        return self.accept_from == ["anyone"]

    @property
    def senders(self) -> dict[str, Peer]:
        """The peers that may send to us; empty when anyone may."""
        return {} if self.anyone_may_send else {n: self.peers[n] for n in self.accept_from}

    @property
    def database_url(self) -> str:
        return self.node.database_url or f"sqlite:///{self.node.data_dir / 'node.sqlite3'}"

    @property
    def spool_dir(self) -> Path:
        return self.node.data_dir / "spool"

    @property
    def reports_dir(self) -> Path:
        return self.node.data_dir / "reports"

    @model_validator(mode="after")
    def _certificates_can_be_shown(self) -> NodeConfig:
        tls = self.receive.tls
        asked = [name for name, peer in self.peers.items() if peer.needs_certificate]
        if asked and (tls is None or tls.client_certificate == "none"):
            raise ValueError(
                f"peer {asked[0]} needs a certificate, but `receive.tls` asks for none: "
                "set its `client_certificate` to optional or required"
            )
        if tls is not None and tls.port == self.node.port:
            raise ValueError(f"`receive.tls.port` and `node.port` are both {tls.port}")
        return self

    @model_validator(mode="after")
    def _unique_route_names(self) -> NodeConfig:
        names = [route.name for route in self.routes]
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise ValueError(f"two routes have the same name: {', '.join(double)}")
        return self
