"""`node.yaml` as pydantic models: every key, its default and its meaning in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from dicom_node.model.conditions import OneOrMore, Strict
from dicom_node.model.peers import AETitle, Peer
from dicom_node.model.routes import Route


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


class NodeSection(Strict):
    """Who this node is and where it keeps things.

    Attributes:
        ae_title: Our AE title, or several; the first one signs what we send.
        host: Address to listen on; 0.0.0.0 is every interface.
        data_dir: Spool, reports and, by default, the database.
        database_url: SQLAlchemy URL; default: SQLite (WAL) in data_dir.
        min_free_mb: Refuse images (status 0xA700) when the disk has less free than this.
    """

    ae_title: Annotated[list[AETitle], BeforeValidator(_several), Field(min_length=1)]
    host: str = "0.0.0.0"
    port: int = Field(default=11112, ge=1, le=65535)
    data_dir: Path
    database_url: str | None = None
    min_free_mb: int = Field(default=1024, ge=0)
    max_associations: int = Field(default=64, ge=1)


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
    def _unique_route_names(self) -> NodeConfig:
        names = [route.name for route in self.routes]
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise ValueError(f"two routes have the same name: {', '.join(double)}")
        return self
