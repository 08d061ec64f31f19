"""What a job's images gave, put together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dicom_node.errors import PipelineError
from dicom_node.inference.bundles import Bundle
from dicom_node.inference.jobs import JobInput, Outcome
from dicom_node.inference.naming import told_apart
from dicom_node.inference.outputs import summary_of
from dicom_node.inference.sources import Pictures, Source, considered
from dicom_node.inference.spans import Spans
from dicom_node.inference.statement import statement_of
from dicom_node.model.findings import Finding, Findings, ImageReference
from dicom_node.model.pipeline import InputKind


class Gathering:
    """What is known of a job so far.

    Raises:
        PipelineError: The job has no images.
    """

    def __init__(self, bundle: Bundle, job: JobInput) -> None:
        if not job.files or len(job.files) != len(job.facts):
            raise PipelineError(
                f"pipeline {bundle.name}", "the job has no images", "send the study again"
            )
        self._bundle = bundle
        self._job = job
        self._found: list[tuple[str, list[Finding]]] = []
        self._references: dict[ImageReference, None] = {}
        self._pictures: Pictures = {}
        self._notes: dict[str, None] = {}
        self.spans = Spans()

    def add(self, source: Source, items: list[Finding]) -> None:
        spec = self._bundle.spec
        if spec.input.kind is InputKind.VOLUME:
            items += summary_of(spec, items)
        self._found.append((source.label, items))
        self._references.update(dict.fromkeys(source.references))
        self._pictures.update(source.pictures)
        self._notes.update(dict.fromkeys(source.notes))

    def outcome(self, record: Mapping[str, Any]) -> Outcome:
        """Return the findings of the whole job, with its record and the time it took."""
        bundle = self._bundle
        spec = bundle.spec
        findings = told_apart(self._found)
        if spec.input.kind is not InputKind.VOLUME:
            findings += summary_of(spec, findings)
        images = considered(self._job) if self._job.rejection else tuple(self._references)
        return Outcome(
            Findings(
                algorithm=bundle.algorithm(),
                procedure=spec.procedure.code(),
                statement=statement_of(spec, findings),
                images=images,
                items=tuple(findings),
                started=self._job.started,
                notes=tuple(self._notes),
            ),
            self._pictures,
            {**record, "seconds": self.spans.rounded()},
        )
