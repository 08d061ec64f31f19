"""What a worker makes of a job: its images for the pipeline, its objects on disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from dicom_node.errors import PipelineError
from dicom_node.hosts.files import Files
from dicom_node.inference.files import read_header
from dicom_node.inference.jobs import JobInput, Outcome
from dicom_node.inference.spans import Spans
from dicom_node.model.codes import Code
from dicom_node.model.findings import Algorithm
from dicom_node.model.pipeline import PipelineSpec
from dicom_node.model.plain import rows_of
from dicom_node.model.predecessor import Predecessor
from dicom_node.model.states import JobState
from dicom_node.model.targets import Rejection
from dicom_node.results.report import ReportObject, build_report
from dicom_node.serve.failures import failure_findings
from dicom_node.store import index, jobs
from dicom_node.store.database import Database
from dicom_node.store.files import write_durably
from dicom_node.store.jobs import JobResult, NewReport
from dicom_node.store.kept import kept_instance
from dicom_node.store.tables import Job


class Executor(Protocol):
    """Runs pipelines, here or elsewhere."""

    def spec(self, name: str) -> PipelineSpec: ...

    def algorithm(self, name: str) -> Algorithm: ...

    def run(self, name: str, job: JobInput) -> Outcome: ...

    def run_many(self, name: str, jobs: Sequence[JobInput]) -> Iterator[Outcome]: ...


class Products:
    """Reads a job's images and writes its objects.

    Args:
        host: What this host is called; None: all hosts share one data folder.
    """

    def __init__(
        self,
        database: Database,
        executor: Executor,
        files: Files,
        reports_dir: Path,
        host: str | None = None,
    ) -> None:
        self._database = database
        self._executor = executor
        self._files = files
        self._reports_dir = reports_dir
        self._making = threading.Lock()
        self._host = host

    def of(self, job: Job, study_uid: str, job_input: JobInput, outcome: Outcome) -> JobResult:
        """Make a job's objects and write them to disk."""
        spans = Spans()
        spec = self._executor.spec(job.pipeline)
        # several jobs may come back from elsewhere at a time
        with self._making, spans.of("results"):
            sources = [read_header(file) for file in job_input.files]
            earlier = Predecessor.of_plain(job.replaces) if job.replaces else None
            report = build_report(
                outcome.findings, sources, outcome.pictures, spec, replaces=earlier
            )
        folder = self._reports_dir / study_uid
        with spans.of("store"):
            made = [self._keep(item, folder) for item in report.objects]
        state = JobState.DONE if outcome.findings.evaluated else JobState.NOT_EVALUATED
        left_out = [asdict(item) for item in report.left_out]
        # of the pipeline that ran, which may be another than the one that routing knew
        record = {
            **outcome.record,
            "version": outcome.findings.algorithm.version,
            "seconds": {**outcome.record.get("seconds", {}), **spans.rounded()},
        }
        return JobResult(state, made, rows_of(outcome.findings), record, left_out)

    def _keep(self, item: ReportObject, folder: Path) -> NewReport:
        """Write an object, and its other forms, to disk."""
        path = folder / f"{item.sop_instance_uid}.dcm"
        return NewReport(
            item.kind,
            item.sop_class_uid,
            item.sop_instance_uid,
            str(path.relative_to(self._reports_dir)),
            write_durably(path, item.encoded),
            str(item.dataset.SeriesInstanceUID),
            [self._keep(other, folder) for other in item.alternatives],
            host=self._host,
        )

    def input(self, job: Job, study_uid: str) -> JobInput:
        """Return the job's images as the index knows them, their files on this machine.

        Raises:
            PipelineError: Not all of them are in the index any more.
            HostAwayError: A host that holds some of them does not answer.
            ImageError: That host has them no more.
        """
        with self._database.read() as session:
            rows = jobs.instances_of(session, job)
        purged = sum(row.purged_at is not None for row in rows)
        if purged:
            raise PipelineError(
                f"job {job.id}",
                f"{purged} of its {len(job.inputs)} images were purged after they were finished",
                "send the study again",
            )
        missing = len(set(job.inputs)) - len(rows)
        if missing or not rows:
            raise PipelineError(
                f"job {job.id}",
                f"{missing} of its {len(job.inputs)} images are not in the index",
                "send the study again",
            )
        rejection = None
        if job.rejection:
            rejection = Rejection(Code(**job.rejection["reason"]), job.rejection["text"])
        return JobInput(
            files=tuple(self._files.path(kept_instance(row), job.id) for row in rows),
            facts=tuple(index.facts_of_row(row, study_uid) for row in rows),
            rejection=rejection,
            # of the first attempt: made again, the objects must be the same bytes
            started=job.started_at or job.queued_at,
        )

    def release(self, job: Job) -> None:
        """Say that a job has ended: its images need not stay on this machine."""
        self._files.release(job.id)

    def of_failure(self, job: Job, study_uid: str) -> list[NewReport]:
        """Make the report that a job has failed, and write it to disk."""
        images = self.input(job, study_uid)
        spec = self._executor.spec(job.pipeline)
        findings = failure_findings(job, images, spec, self._executor.algorithm(job.pipeline))
        sources = [read_header(file) for file in images.files]
        # nothing but words: no picture is read by what may have crashed on it
        report = build_report(findings, sources, {}, spec.model_copy(update={"objects": []}))
        folder = self._reports_dir / study_uid
        return [self._keep(item, folder) for item in report.objects]
