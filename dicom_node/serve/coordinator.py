"""The coordinator: indexes, settles, routes and delivers; APScheduler drives what recurs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Set
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeGuard

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from dicom_node.alerts import book
from dicom_node.clock import Clock
from dicom_node.config import NodeConfig
from dicom_node.delivery import (
    CommitmentAsker,
    Outbox,
    PeerSender,
    RetryStrategy,
    ScuSettings,
    ask,
    destination_for,
)
from dicom_node.errors import NodeError
from dicom_node.inference.bundles import Bundle
from dicom_node.logs import error_facts
from dicom_node.model.decisions import Decision
from dicom_node.model.documents import DocumentClass
from dicom_node.model.peers import AnyPeer, Peer
from dicom_node.model.states import HoldReason, StudyState
from dicom_node.routing import decide
from dicom_node.serve.arrivals import Arrivals
from dicom_node.serve.commitment import CommitmentDesk
from dicom_node.serve.completeness import completeness_of
from dicom_node.serve.disk import DiskWatch
from dicom_node.serve.gone_peers import end_vain_wait, fail_waiting
from dicom_node.serve.limits import time_limits
from dicom_node.serve.locks import holders, worker_name
from dicom_node.serve.recurring import Timetable
from dicom_node.serve.retention import Retention
from dicom_node.serve.sharing import Ready, after_all_hosts, files_of
from dicom_node.serve.watching import Watching
from dicom_node.store import ahead, audit, held, hosts, index, jobs, losses, outbox, withheld
from dicom_node.store.ahead import Longest
from dicom_node.store.database import Database
from dicom_node.store.jobs import NewJob
from dicom_node.store.losses import LossPolicy
from dicom_node.store.spool import Spool
from dicom_node.store.tables import Study
from dicom_node.store.wake import Polling, Wake
from dicom_node.studies.indexing import Indexer

_log = structlog.get_logger()


class Coordinator:
    """Moves studies from the spool to the queue of jobs, and reports to their peers.

    Args:
        started: Since when senders could come; None: from now on.
        wake: Returns what a sender of reports waits on.
    """

    def __init__(
        self,
        config: NodeConfig,
        bundles: Mapping[str, Bundle],
        database: Database,
        spool: Spool,
        clock: Clock,
        *,
        started: datetime | None = None,
        wake: Callable[[], Wake] = Polling,
    ) -> None:
        self._config = config
        # where each host has a data folder, a keeper on each does what is done beside the files
        self._keeps_files = config.hosts is None
        self._bundles = bundles
        self._specs = {name: bundle.spec for name, bundle in bundles.items()}
        self._database = database
        self._clock = clock
        self._started = started or clock.now()
        self._indexer = Indexer(
            database,
            spool,
            clock,
            hold_changed_patient=config.studies.on_changed_patient == "hold",
        )
        self._arrivals = Arrivals(self._indexer, spool.arrivals)
        self._longest_job = max(
            time_limits(config, bundles).values(),
            default=timedelta(seconds=config.inference.time_limit_seconds),
        )
        self._disk = DiskWatch(config, database, clock)
        self._retention = Retention(config, database, clock)
        self._watching = Watching(config, database, clock)
        self._completeness = completeness_of(config, database, clock)
        self._commitments = CommitmentDesk(
            config,
            database,
            self._indexer.index_waiting if self._keeps_files else int,
            self._retry(),
            clock,
            files_of(config, database),
        )
        self._timetable = Timetable(threads=6)
        self._outbox = Outbox([], timedelta(seconds=0.5), wake)
        with database.read() as session:
            asked = outbox.committers(session)
        self._send_to(asked.union(*(route.send_to for route in config.routes)))
        for name in sorted(name for name in asked if not _commits(config.peers.get(name))):
            end_vain_wait(database, name, clock, gone=name not in config.peers)
        self.send_to_all_receivers()

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop."""
        every = self._timetable.every
        every(self._settle_every, self.settle_in_time)
        if self._completeness is not None:
            every(1, self._completeness.ask_about_quiet_studies)
        every(5, self.take_back_lost_jobs)
        every(5, self.send_to_all_receivers)
        every(60, self.let_go_what_waits_ahead)
        every(0.5, self._commitments.verify_commitments)
        every(0.5, self._commitments.report_commitments)
        if self._keeps_files:
            every(5, self._disk.watch_disk)
            every(30, self._retention.purge_when_low)
            every(self._retention.every, self._retention.purge_by_age)
            self._arrivals.start()
        self._timetable.start()
        self._watching.start()
        self._outbox.start()
        try:
            while not stop.wait(0.5):
                self._timetable.keep_time()
                self._watching.keep_time()
                if not self._outbox.alive:
                    raise NodeError(
                        "outbox", "a sender thread has died", "the log says why, the role restarts"
                    )
        finally:
            self._timetable.stop()
            if self._keeps_files:
                self._arrivals.stop()
            self._watching.stop()
            self._outbox.stop()

    @property
    def _settle_every(self) -> float:
        return min(1.0, self._config.settle.quiet_seconds / 4)

    def settle_in_time(self) -> None:
        """Settle and route; a study that will soon be quiet is looked at in that moment."""
        now = self._clock.now()
        self.settle_and_route()
        quiet = timedelta(seconds=self._config.settle.quiet_seconds)
        with self._database.read() as session:
            last = index.next_to_be_quiet(session, now, quiet)
        if last is not None and last + quiet - now < timedelta(seconds=self._settle_every):
            at = datetime.now(UTC) + (last + quiet - now)
            self._timetable.next_at(self.settle_in_time.__name__, at)

    def settle_and_route(self) -> None:
        """Settle what is quiet and decide what runs on it."""
        quiet = timedelta(seconds=self._config.settle.quiet_seconds)
        now = self._clock.now()
        # a clock that was put back must not let all wait until it is there again
        self._started = min(self._started, now)
        self._take_as_come_now(now)
        with self._database.read() as session:
            may_settle = index.any_quiet(session, now, quiet)
        if self._keeps_files and (may_settle or not self._indexer.in_burst):
            # what the spool still holds may belong to a study that is about to settle
            self._indexer.index_waiting()
        # after a start, senders get the quiet time to come back before anything settles
        if now - self._started >= quiet and not self._indexer.held_up:
            with self._database.write() as session:
                settled = index.settle_quiet(session, now, quiet, self._ready(session, now))
            for study_uid in settled:
                _log.info("study_settled", study_uid=study_uid)
        while self._route_some():
            pass

    def _take_as_come_now(self, now: datetime) -> None:
        """Studies that images came to while the clock was ahead settle after the quiet time."""
        with self._database.read() as session:
            any_ahead = index.any_ahead(session, now)
        if any_ahead:
            with self._database.write() as session:
                brought_back = index.bring_back(session, now)
            _log.warning("studies_dated_ahead", studies=len(brought_back))

    def let_go_what_waits_ahead(self) -> None:
        """Try what was to be tried again at a time that the clock, put back, is far from."""
        now, longest = self._clock.now(), self._longest_waits
        with self._database.read() as session:
            found = ahead.waits_ahead(session, now, longest)
        if found:
            with self._database.write() as session:
                ahead.let_go(session, now, longest)
            _log.warning("waits_dated_ahead", **asdict(found))

    @property
    def _longest_waits(self) -> Longest:
        """Nothing waits for longer, and clocks of hosts differ by a little."""
        retry, inference = self._config.retry, self._config.inference
        attempt = max(1.25 * retry.longest_seconds, 10 * inference.attempts * retry.first_seconds)
        commits = [peer.commitment_timeout_seconds for peer in self._config.dicom_peers.values()]
        a_little = timedelta(minutes=1)
        return Longest(
            attempt=timedelta(seconds=attempt) + a_little,
            ask=timedelta(seconds=max([attempt, *commits])) + a_little,
            claim=timedelta(seconds=inference.lease_seconds) + a_little,
            message=book.LONGEST_WAIT + a_little,
        )

    def _ready(self, session: Session, now: datetime) -> Ready:
        ready = self._completeness.ready if self._completeness else index.at_once
        if self._keeps_files:
            return ready
        return after_all_hosts(hosts.lines(session), now, self._config.settle, ready)

    def take_back_lost_jobs(self) -> None:
        """Requeue jobs whose worker no longer renews its claim."""
        inference = self._config.inference
        with self._database.write() as session:
            lost = losses.requeue_lost(
                session,
                self._clock.now(),
                LossPolicy(
                    inference.attempts,
                    timedelta(seconds=self._config.retry.first_seconds),
                    inference.quarantine_after,
                    inference.report_failures,
                ),
                alive=self._workers_here(),
                patience=self._longest_job,
            )
        if lost:
            _log.warning("jobs_taken_back", job_ids=lost)

    def _workers_here(self) -> set[str]:
        """The workers whose jobs come back without us.

        One that hangs cannot renew its claim and is killed at its limit. One that has died has a
        successor, which alone knows how.
        """
        names = set(holders(self._config.node.data_dir))
        if "supervisor" in names:
            names |= {f"worker-{number}" for number in range(self._config.inference.workers)}
        return {worker_name(name, self._config.this_host) for name in names}

    def _route_some(self) -> int:
        with self._database.read() as session:
            waiting = [study.id for study in index.to_route(session)]
        for study_id in waiting:
            try:
                with self._database.write() as session:
                    study = session.get_one(Study, study_id)
                    # an image may have reopened it since it was looked up
                    if study.state == StudyState.SETTLED and study.held_at is None:
                        self._route(session, study)
            except SQLAlchemyError:
                raise  # the database's trouble, not the study's: tried again soon
            except Exception as error:  # noqa: BLE001 - one study must not hold up the others
                self._record_failure(study_id, error)
        return len(waiting)

    def _record_failure(self, study_id: int, error: Exception) -> None:
        """Routing raised: the study waits for a person, and is routed again when released.

        It does not count as routed: its images stay, and what was kept back of it stays back.
        """
        facts = error_facts(error)
        why = facts.get("why") or f"{facts['error']} at {facts['where']}"
        now = self._clock.now()
        with self._database.write() as session:
            study = session.get_one(Study, study_id)
            audit.record(
                session,
                now,
                "study_routing_failed",
                study_uid=study.study_instance_uid,
                revision=study.revision,
                error=facts,
            )
            held.hold(
                session,
                study,
                HoldReason.ROUTING_FAILED,
                f"routing failed: {why}; mend the cause, "
                f"then `dicom-node release {study.study_instance_uid} --reason TEXT`",
                now,
            )
        _log.error("study_routing_failed", study_uid=study.study_instance_uid, **facts)

    def _route(self, session: Session, study: Study) -> None:
        now = self._clock.now()
        purged = index.purged_images(session, study)
        if purged:
            held.hold(
                session,
                study,
                HoldReason.IMAGES_PURGED,
                f"{purged} of its images were purged: send all of it again, "
                "or release it to go on with the others",
                now,
            )
            return
        facts = index.facts_of_study(session, study)
        decision: Decision = decide(self._config.routes, self._specs, facts, self._config.peers)
        for wanted in decision.jobs:
            bundle = self._bundles[wanted.pipeline]
            jobs.enqueue(
                session,
                study,
                NewJob(
                    pipeline=wanted.pipeline,
                    version=bundle.version,
                    weights_sha256=bundle.weights_sha256,
                    inputs=[item.sop_instance_uid for item in wanted.instances],
                    peers=wanted.peers,
                    reason=wanted.reason,
                    rejection=asdict(wanted.rejection) if wanted.rejection else None,
                    priority=wanted.priority,
                    sender=wanted.instances[0].sender if wanted.instances else "",
                ),
                now,
            )
        study.routed_revision = study.revision
        study.unrouted_reason = decision.unrouted_reason
        withheld.deliver_withheld(session, study, now)
        kind = "study_routed" if decision.jobs else "study_unrouted"
        audit.record(
            session,
            now,
            kind,
            study_uid=study.study_instance_uid,
            revision=study.revision,
            pipelines=[item.pipeline for item in decision.jobs],
            reason=decision.unrouted_reason,
        )
        _log.info(
            kind,
            study_uid=study.study_instance_uid,
            pipelines=[item.pipeline for item in decision.jobs],
            reason=decision.unrouted_reason,
        )

    def send_to_all_receivers(self) -> None:
        """Have a sender for each peer that something waits for; what waits for no peer fails.

        A job keeps the peers of its route as it was then, and a person may send an object again:
        either may name a peer that no route names.
        """
        with self._database.read() as session:
            waiting = outbox.receivers(session)
        self._send_to(waiting)
        for name in sorted(waiting - self._config.peers.keys()):
            fail_waiting(self._database, name, self._clock)

    def _send_to(self, names: Set[str]) -> None:
        for name in sorted((names & self._config.peers.keys()) - self._outbox.peers):
            self._outbox.add(self._sender(name))

    def _sender(self, name: str) -> PeerSender:
        scu = ScuSettings(ae_title=self._config.node.ae_title[0])
        peer = self._config.peers[name]
        return PeerSender(
            name,
            destination_for(scu, peer),
            database=self._database,
            reports_dir=self._config.reports_dir,
            files=files_of(self._config, self._database),
            retry=self._retry(),
            clock=self._clock,
            asker=self._asker(name, peer, scu),
            sr_classes=peer.sr_classes if isinstance(peer, Peer) else tuple(DocumentClass),
        )

    def _asker(self, name: str, peer: AnyPeer, scu: ScuSettings) -> CommitmentAsker | None:
        if not _commits(peer):
            return None
        return CommitmentAsker(
            name,
            peer,
            database=self._database,
            retry=self._retry(),
            clock=self._clock,
            ask=partial(ask, scu, peer),
        )

    def _retry(self) -> RetryStrategy:
        retry = self._config.retry
        return RetryStrategy(
            timedelta(seconds=retry.first_seconds),
            timedelta(seconds=retry.longest_seconds),
            timedelta(hours=retry.give_up_after_hours),
        )


def _commits(peer: AnyPeer | None) -> TypeGuard[Peer]:
    """Whether a peer is asked to commit to what it got."""
    return isinstance(peer, Peer) and peer.storage_commitment
