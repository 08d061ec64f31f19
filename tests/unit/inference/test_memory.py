"""Short memory: smaller batches on the GPU, then the CPU where that is allowed, then an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs
from torch import Tensor

from dicom_node.errors import PipelineError
from dicom_node.inference.bundles import load_bundle
from dicom_node.inference.guard import Stage
from dicom_node.inference.local import LocalExecutor
from dicom_node.inference.memory import DeviceMemoryError, HostMemoryError, infer
from tests.factories import radiograph
from tests.unit.inference import memory_parts
from tests.unit.inference.job_files import job, spot
from tests.unit.inference.tiny_bundles import parts, write_bundle


class Small:
    """A network on a GPU with room for so many samples at a time."""

    def __init__(self, room: int, answer: Callable[[Tensor], Any] = lambda part: part * 2) -> None:
        self.room, self.answer = room, answer
        self.tried: list[int] = []

    def __call__(self, part: Tensor) -> Any:
        self.tried.append(len(part))
        if len(part) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.answer(part)


def test_a_batch_that_fits_is_run_at_once() -> None:
    network = Small(8)
    batch = torch.rand(8, 1, 2, 2)
    assert torch.equal(infer(network, batch), batch * 2)
    assert network.tried == [8]


def test_a_batch_that_does_not_fit_is_halved_until_it_does_and_gives_the_same() -> None:
    network = Small(3)
    batch = torch.rand(10, 1, 2, 2)
    assert torch.equal(infer(network, batch), batch * 2)
    assert network.tried == [10, 5, 3, 3, 3, 1]


def test_outputs_of_several_tensors_are_put_together_one_by_one() -> None:
    network = Small(2, lambda part: {"mean": part.mean((1, 2, 3)), "more": [part, part + 1]})
    batch = torch.rand(5, 1, 2, 2)
    found = infer(network, batch)
    assert torch.equal(found["mean"], batch.mean((1, 2, 3)))
    assert torch.equal(found["more"][1], batch + 1)


def test_a_sample_that_does_not_fit_alone_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        infer(Small(0), torch.rand(4, 1, 2, 2))


def test_a_network_that_mixes_its_batch_is_not_run_in_parts() -> None:
    with pytest.raises(torch.OutOfMemoryError, match="apart"):
        infer(Small(2, lambda part: part.mean(0)), torch.rand(4, 1, 2, 2))


@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), DeviceMemoryError),
        (MemoryError(), HostMemoryError),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"),
            HostMemoryError,
        ),
        (ValueError("Doe^Jane"), PipelineError),
    ],
)
def test_what_a_part_raises_for_want_of_memory_says_so(
    error: Exception, becomes: type[PipelineError]
) -> None:
    with pytest.raises(PipelineError) as told, Stage("tiny", "network"):
        raise error
    assert type(told.value) is becomes
    with pytest.raises(PipelineError) as told, Stage("tiny", "preprocessing"):
        # MONAI wraps what a transform raised
        raise RuntimeError("applying transform") from error
    assert type(told.value) is becomes
    assert "Doe" not in str(told.value)


@pytest.fixture
def on_a_small_gpu(tmp_path: Path) -> Callable[[bool], LocalExecutor]:
    """An executor whose network finds too little memory until it runs on the CPU."""

    def make(cpu_fallback: bool) -> LocalExecutor:
        network = {"_target_": f"{memory_parts.__name__}.TooLargeForTheGpu"}
        folder = write_bundle(tmp_path, inference=parts(network_def=network))
        executor = LocalExecutor(
            {"tiny": load_bundle(folder)}, device="cpu", threads=1, cpu_fallback=cpu_fallback
        )
        executor.warm_up()
        # the network that was loaded first is the one on the GPU
        memory_parts.TooLargeForTheGpu.on_the_gpu = 1
        executor._device = torch.device("cuda", 0)
        return executor

    memory_parts.TooLargeForTheGpu.built = 0
    return make


def test_a_job_that_the_gpu_cannot_hold_runs_on_the_cpu_and_its_record_says_so(
    on_a_small_gpu: Callable[[bool], LocalExecutor], tmp_path: Path
) -> None:
    executor = on_a_small_gpu(True)
    with capture_logs() as logs:
        outcome = executor.run("tiny", job(tmp_path / "in", [radiograph(spot(30, 90))]))
    assert outcome.findings.evaluated
    assert outcome.record["device"] == "cpu"
    assert outcome.record["fallback"] == "the memory of cuda:0 was too small"
    assert [entry["event"] for entry in logs] == ["job_moved_to_cpu"]


def test_where_the_cpu_is_not_allowed_the_job_fails_and_says_what_to_do(
    on_a_small_gpu: Callable[[bool], LocalExecutor], tmp_path: Path
) -> None:
    executor = on_a_small_gpu(False)
    with pytest.raises(DeviceMemoryError, match="more memory than the GPU has") as told:
        executor.run("tiny", job(tmp_path / "in", [radiograph(spot(30, 90))]))
    assert "inference.cpu_fallback" in told.value.fix
