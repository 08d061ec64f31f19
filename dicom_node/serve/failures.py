"""What is recorded of a job that failed, and what the radiologist is told of it."""

from __future__ import annotations

from dicom_node.errors import HostAwayError, NodeError, SpoolError
from dicom_node.inference.jobs import JobInput
from dicom_node.inference.memory import HostMemoryError, host_memory_is_short
from dicom_node.inference.sources import considered
from dicom_node.logs import place_of
from dicom_node.model import own_codes
from dicom_node.model.findings import Algorithm, Findings, NotEvaluated, Side, Subject
from dicom_node.model.pipeline import PipelineSpec
from dicom_node.store.losses import Loss
from dicom_node.store.tables import Job


class LostError(NodeError):
    """What ran a job elsewhere was lost with it; this process was not."""

    def __init__(self, what: str, loss: Loss) -> None:
        super().__init__(what, loss.why, loss.fix)
        self.loss = loss


OUT_OF_MEMORY = "out_of_memory"
DISK = "disk"
HOST = "host"
BLAMELESS = frozenset({DISK, HOST})
"""Not the job's fault: it is tried until the disk takes its reports, until the host is back."""

_IN_WORDS = {
    "time_limit": "it took longer than it may",
    "crashed": "the program crashed",
    "killed": "the program was killed",
    "lost": "the program was stopped",
    OUT_OF_MEMORY: "there was not enough memory",
}


def error_of(raised: BaseException, job: Job) -> dict[str, str]:
    """Return what, why and fix of a failed attempt, and its reason in one word.

    Of an error that is not ours neither the message nor the values: both may hold patient data.
    """
    if isinstance(raised, HostMemoryError) or host_memory_is_short(raised):
        return {
            "what": f"pipeline {job.pipeline}",
            "why": "it wanted more memory than its worker may take",
            "fix": f"raise `inference.max_memory_mb`, then `dicom-node retry {job.id}`",
            "reason": OUT_OF_MEMORY,
        }
    if isinstance(raised, NodeError):
        reason = "error"
        if isinstance(raised, SpoolError | HostAwayError):
            reason = DISK if isinstance(raised, SpoolError) else HOST
        return {"what": raised.what, "why": raised.why, "fix": raised.fix, "reason": reason}
    return {
        "what": f"pipeline {job.pipeline}",
        "why": f"{type(raised).__name__} at {place_of(raised)}",
        "fix": f"`dicom-node pipelines check {job.pipeline}`, then `dicom-node retry {job.id}`",
        "reason": "error",
    }


def failure_findings(
    job: Job, images: JobInput, spec: PipelineSpec, algorithm: Algorithm
) -> Findings:
    """Return findings that say no more than that processing failed, and in what way.

    They are an edition of their own: should the job succeed later, its objects are others.
    """
    reason = str((job.error or {}).get("reason", ""))
    how = _IN_WORDS.get(reason, "the program reported an error")
    references = considered(images)
    subject = Subject(
        spec.anatomy.meaning.lower(), spec.anatomy.code(), Side.NONE, images=references
    )
    text = f"processing failed: {how} (job {job.id})"
    return Findings(
        algorithm=algorithm,
        procedure=spec.procedure.code(),
        statement=f"Not evaluated: {text}.",
        images=references,
        items=(NotEvaluated(subject, own_codes.PROCESSING_FAILED, text),),
        started=images.started,
        edition="failed",
    )
