"""`/metrics` for Prometheus: counts and times, and nothing of a patient."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from dicom_node import __version__
from dicom_node.serve.disk import disk_state
from dicom_node.serve.locks import holders
from dicom_node.store import overview
from dicom_node.store.figures import Figures, figures
from dicom_node.web.context import WebContext
from dicom_node.web.requests import Context

_FRESH_FOR: Final = 5.0
"""Seconds for which several scrapers get the same numbers: counting costs the database."""
ROLES: Final = ("supervisor", "receiver", "coordinator", "worker", "web")


class NodeCollector(Collector):
    """Reads the database at each scrape; a scrape within seconds gets what the last one got."""

    def __init__(self, context: WebContext) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._last: tuple[float, list[Metric]] | None = None

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > _FRESH_FOR:
                with self._context.database.read() as session:
                    counted = figures(session, self._context.clock.now())
                self._last = time.monotonic(), [*self._machine(), *_of(counted)]
            metrics = self._last[1]
        yield from metrics

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not ask the database."""
        yield from ()

    def _machine(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("dicom_node_info", "The version that runs.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        disk = disk_state(self._context.config)
        mib = 1024 * 1024
        yield _gauge("disk_free_bytes", "Free space of the data folder.", disk.free * mib)
        yield _gauge("disk_warn_below_bytes", "Below it the node warns.", disk.warn_below * mib)
        yield _gauge(
            "disk_refuse_below_bytes", "Below it images are refused.", disk.refuse_below * mib
        )
        spool = overview.spool_counts(self._context.config.spool_dir)
        yield _gauge("spool_waiting_files", "Files that wait for the index.", spool.waiting)
        yield _gauge("spool_aside_files", "Files that could not be indexed.", spool.aside)
        running = [name.partition("-")[0] for name in holders(self._context.config.node.data_dir)]
        roles = GaugeMetricFamily(
            "dicom_node_role_processes", "Processes that run, by role.", labels=["role"]
        )
        for role in (*ROLES, *(("keeper",) if self._context.config.hosts else ())):
            roles.add_metric([role], running.count(role))
        yield roles


router = APIRouter(include_in_schema=False)


@router.get("/metrics")
def metrics(request: Request, context: Context) -> Response:
    """Tell everything in Prometheus' text format."""
    state = request.app.state
    if not hasattr(state, "metrics"):
        state.metrics = CollectorRegistry()
        state.metrics.register(NodeCollector(context))
    return Response(generate_latest(state.metrics), media_type=CONTENT_TYPE_LATEST)


def _of(counted: Figures) -> Iterator[Metric]:
    received = CounterMetricFamily("dicom_node_instances_received", "Images that were indexed.")
    received.add_metric([], counted.received)
    yield received
    if counted.last_received_at is not None:
        at = counted.last_received_at.timestamp()
        yield _gauge("last_received_timestamp_seconds", "When the last image came.", at)
    yield _by(
        "studies", "Studies by state.", ["state"], {(s,): n for s, n in counted.studies.items()}
    )
    yield _gauge("studies_unrouted", "Studies that no route wanted.", counted.unrouted)
    yield _gauge("studies_held", "Studies that wait for a person.", counted.held)
    yield _by("jobs", "Jobs by pipeline and state.", ["pipeline", "state"], counted.jobs)
    yield _by("deliveries", "Objects by peer and state.", ["peer", "state"], counted.deliveries)
    yield _gauge(
        "queue_oldest_job_seconds",
        "How long the oldest job has waited; 0: none waits.",
        counted.oldest_job_seconds or 0,
    )
    yield _by(
        "outbox_oldest_seconds",
        "How long the oldest object for a peer has waited.",
        ["peer"],
        {(peer,): seconds for peer, seconds in counted.oldest_delivery_seconds.items()},
    )
    yield _by(
        "job_duration_seconds",
        "Time of the jobs that ended in the last hour: quantiles.",
        ["pipeline", "quantile"],
        {
            (item.pipeline, f"{quantile:g}"): seconds
            for item in counted.durations
            for quantile, seconds in item.quantiles
        },
    )
    yield _by(
        "jobs_ended_last_hour",
        "Jobs that ended with a result in the last hour.",
        ["pipeline"],
        {(item.pipeline,): item.number for item in counted.durations},
    )
    yield _by(
        "refused_last_day",
        "What callers were refused in the last 24 hours.",
        ["kind"],
        {(kind,): number for kind, number in counted.refused.items()},
    )
    yield _gauge("suspect_pipelines", "Pipelines that took down a worker.", counted.suspects)
    yield _by("alerts_firing", "Alerts that fire.", ["rule", "severity"], counted.alerts)
    yield _by(
        "alert_messages",
        "Alert messages that wait or were given up.",
        ["channel", "state"],
        counted.messages,
    )
    yield _by(
        "peer_up",
        "1: the peer answered when it was last asked.",
        ["peer"],
        {(peer,): int(up) for peer, up in counted.peers_up.items()},
    )
    yield _gauge("audit_sealed_events", "Length of the audit trail's chain.", counted.audit_sealed)
    if counted.audit_unsent is not None:
        yield _gauge(
            "audit_unsent_events",
            "Events that the audit repository has not got.",
            counted.audit_unsent,
        )


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(f"dicom_node_{name}", what, value=value)


def _by(name: str, what: str, labels: list[str], values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(f"dicom_node_{name}", what, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(list(key), value)
    return family
