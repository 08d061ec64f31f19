"""What a job may take of time and memory, kept by the kernel, and how a worker came to its end.

The time limit is a kernel timer (setitimer(2)) whose signal, SIGALRM, nobody handles: it kills
the process, also in the midst of C code that never gives the interpreter's lock back, with a
supervisor or without one. The supervisor starts a new worker and tells it how the last one died.

The memory limit is RLIMIT_DATA (setrlimit(2)): private writable memory. RLIMIT_AS would count
address space that is only reserved, of which CUDA takes hundreds of gigabytes and maps most of
its libraries; resident memory (RLIMIT_RSS) is not limited by Linux at all.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from dicom_node.config import NodeConfig
from dicom_node.inference.bundles import Bundle
from dicom_node.serve.locks import Hold
from dicom_node.store.losses import Loss

_log = structlog.get_logger()

_MIB: Final = 1024 * 1024
_SHARE: Final = 0.75
"""Of the machine's memory, for all workers together, where no limit is configured."""
_LEAST_MB: Final = 1536
"""Less is not worth a limit: the libraries alone take some 450 MiB, a volume a gigabyte."""

_CGROUP_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)

_STOPPED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_OWN_EXIT: Final = (0, 1, 2)
"""Exit statuses of a worker that ends by itself (`serve_role`)."""


@contextmanager
def time_limit(limit: timedelta) -> Iterator[None]:
    """Kill this process by SIGALRM when what is inside takes longer.

    Only for a process that has a successor, in its main thread.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limit.total_seconds())
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def limit_memory(megabytes: int) -> None:
    """Limit this process's private memory; 0: do not."""
    if megabytes:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = megabytes * _MIB
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def lift_memory_limit() -> None:
    """Let a process whose memory is used up end its work in order."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def default_memory_mb(workers: int) -> int:
    """Return a worker's share of the memory of this machine, or of its control group.

    Never less than a pipeline needs to run at all.
    """
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in _CGROUP_LIMITS:
        try:
            text = file.read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return max(_LEAST_MB, int(total * _SHARE) // _MIB // workers)


def loss_of(status: int | None, limit: timedelta) -> Loss:
    """Say how a worker was lost.

    Args:
        status: Its exit status as `subprocess` gives it, negative for a signal; None: not known.
        limit: The time limit of the job that it ran.
    """
    if status is None or status in _OWN_EXIT or -status in _STOPPED:
        return Loss("lost", "its worker was stopped, or died with its machine", blamed=False)
    if status == -signal.SIGALRM:
        seconds = limit.total_seconds()
        return Loss("time_limit", f"it ran longer than its limit of {seconds:g} s", blamed=True)
    if status == -signal.SIGKILL:
        return Loss(
            "killed",
            "its worker was killed (SIGKILL), as the kernel does when memory is short",
            blamed=False,
        )
    if status < 0:
        return Loss("crashed", f"it crashed its worker with {signal_name(-status)}", blamed=True)
    return Loss("crashed", f"it ended its worker with exit status {status}", blamed=True)


def signal_name(number: int) -> str:
    """Return "signal 11 (SIGSEGV)"."""
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def time_limits(config: NodeConfig, bundles: Mapping[str, Bundle]) -> dict[str, timedelta]:
    """Return each routed pipeline's limit: the site's, else its own, else the node's."""
    found = {}
    for name in {name for route in config.routes for name in route.run}:
        site = config.pipelines[name].time_limit_seconds if name in config.pipelines else None
        own = bundles[name].spec.time_limit_seconds if name in bundles else None
        found[name] = timedelta(seconds=site or own or config.inference.time_limit_seconds)
    return found


class LoadingMark:
    """Remembers which pipeline was being loaded when a worker died.

    A pipeline that takes down the worker that loads it must not keep all workers from starting:
    the next one leaves it for its first job, which then fails with the reason.
    """

    def __init__(self, worker: Hold, data_dir: Path) -> None:
        self._folder = data_dir / "loading"
        self._worker = worker.name

    def left_behind(self) -> set[str]:
        """Return the pipelines whose loading nobody has survived."""
        names = {file.name.partition("@")[2] for file in self._files()}
        for name in sorted(names):
            _log.error(
                "pipeline_not_loaded",
                pipeline=name,
                why="a worker died while it was loaded",
                fix=f"`dicom-node pipelines check {name}`, then restart the node",
            )
        return names

    @contextmanager
    def around(self, name: str, limited: AbstractContextManager[object]) -> Iterator[None]:
        """Mark that a pipeline is being loaded."""
        self._folder.mkdir(exist_ok=True)
        mark = self._folder / f"{self._worker}@{name}"
        mark.touch()
        try:
            with limited:
                yield
        finally:
            mark.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return list(self._folder.glob(f"{self._worker}@*")) if self._folder.is_dir() else []


def forget_loading(data_dir: Path) -> None:
    """Try every pipeline anew, as at the start of the node."""
    for file in (data_dir / "loading").glob("*"):
        file.unlink(missing_ok=True)
