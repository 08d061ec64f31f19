"""`inference.executor: ray`: the Ray cluster that runs the pipelines, and how much of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field, model_validator

from dicom_node.model.conditions import Strict

_CLIENT: Final = re.compile(r"ray://(\[[0-9a-fA-F:]+\]|[\w.-]+):\d{1,5}")


def _address(value: str) -> str:
    if value != "auto" and not _CLIENT.fullmatch(value):
        raise ValueError(f"{value!r} is neither auto nor ray://host:port")
    return value


def _share(value: float) -> float:
    if value > 1 and value != int(value):
        raise ValueError(f"{value:g}: more than one is a whole number, as Ray has it")
    return value


Share = Annotated[float, Field(ge=0), AfterValidator(_share)]


class PoolSection(Strict):
    """The actors of one pipeline; what is left out is as in section `ray`."""

    num_gpus: Share | None = None
    num_cpus: Share | None = None
    min_actors: int | None = Field(default=None, ge=0)
    max_actors: int | None = Field(default=None, ge=1)


class RaySection(Strict):
    """The Ray cluster, and the actors of a pipeline that says nothing else.

    Attributes:
        address: "auto": the cluster that this host is a node of (or RAY_ADDRESS); or
            ray://host:port of a Ray client server.
        num_gpus: What an actor takes of a GPU, such as 0.25; 0: it runs on the CPU.
        num_cpus: CPU cores that an actor takes; as many threads.
        min_actors: So many are kept, warm.
        max_actors: So many at most, when jobs wait.
        idle_seconds: An actor above `min_actors` that had no job for so long is released.
        prefetch: Jobs of a pipeline that are claimed and read while its actors are busy.
        place_seconds: A job for which the cluster has had no room for so long goes back.
        lost_actors: So many times a job is run again at once when its Ray node is lost.
        cache_dir: Folder on the Ray nodes for bundles and weights; default: in their /tmp.
    """

    address: Annotated[str, AfterValidator(_address)] = "auto"
    num_gpus: Share = 0
    num_cpus: Share = 1
    min_actors: int = Field(default=1, ge=0)
    max_actors: int = Field(default=4, ge=1)
    idle_seconds: float = Field(default=300, gt=0)
    prefetch: int = Field(default=1, ge=0)
    place_seconds: float = Field(default=300, gt=0)
    lost_actors: int = Field(default=3, ge=0)
    cache_dir: Path | None = None

    @model_validator(mode="after")
    def _fits(self) -> RaySection:
        if self.min_actors > self.max_actors:
            raise ValueError("`min_actors` is more than `max_actors`")
        return self

    def of(self, pool: PoolSection | None) -> RaySection:
        """Return the same with what a pipeline's own section says.

        Raises:
            ValidationError: Together they do not fit.
        """
        own = pool.model_dump(exclude_none=True) if pool is not None else {}
        return RaySection.model_validate({**self.model_dump(), **own})
