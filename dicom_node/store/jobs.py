"""The queue of jobs: queueing, claiming and ending, under one name."""

from __future__ import annotations

from dicom_node.store.claiming import claim, claim_batch, held, instances_of, renew, waiting
from dicom_node.store.ending import JobResult, NewReport, fail, finish, put_report, stop
from dicom_node.store.queueing import NewJob, enqueue, retry

__all__ = [
    "JobResult",
    "NewJob",
    "NewReport",
    "claim",
    "claim_batch",
    "enqueue",
    "fail",
    "finish",
    "held",
    "instances_of",
    "put_report",
    "renew",
    "retry",
    "stop",
    "waiting",
]
