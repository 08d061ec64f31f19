"""Self-tests of pipelines: what drifts gets no jobs until it passes again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import structlog

from dicom_node.clock import Clock
from dicom_node.errors import NodeError
from dicom_node.inference.golden import Deviations
from dicom_node.model.findings import Algorithm
from dicom_node.store import fitness
from dicom_node.store.database import Database

_log = structlog.get_logger()


class Tested(Protocol):
    """Runs golden inputs."""

    def algorithm(self, name: str) -> Algorithm: ...

    def test(self, name: str) -> Deviations: ...


def self_test(
    executor: Tested,
    names: Iterable[str],
    database: Database,
    clock: Clock,
    around: Callable[[str], AbstractContextManager[object]] = nullcontext,
) -> None:
    """Run the golden input of each pipeline, and record whether its jobs may run.

    Args:
        around: Context in which each runs.
    """
    for name in names:
        with around(name):
            differs, error = tested(executor, name)
        if error is not None:
            # its jobs fail with the reason by themselves
            _log.error("selftest_not_run", pipeline=name, why=error.why, fix=error.fix)
            continue
        record(database, executor.algorithm(name), differs, clock)
        if differs:
            _log.error(
                "pipeline_disabled",
                pipeline=name,
                why="; ".join(differs),
                fix=f"`dicom-node pipelines selftest {name}`, when the cause is gone",
            )
        elif differs is not None:
            _log.info("selftest_passed", pipeline=name)


def tested(executor: Tested, name: str) -> tuple[Deviations, NodeError | None]:
    """Return what differs, or why the test could not be run."""
    try:
        return executor.test(name), None
    except NodeError as error:
        return None, error


def record(database: Database, algorithm: Algorithm, differs: Deviations, clock: Clock) -> None:
    """Record a self-test; of a pipeline without a golden input that there is none."""
    with database.write() as session:
        if differs is None:
            fitness.forget(session, algorithm.name)
            return
        fitness.record(
            session,
            algorithm.name,
            algorithm.version,
            algorithm.weights_sha256,
            differs,
            clock.now(),
        )
