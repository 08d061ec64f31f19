"""Around a bundle's own code: what it raises becomes an error that names where, never whom."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType

from dicom_node.errors import NodeError, PipelineError
from dicom_node.inference.memory import memory_error


class Stage:
    """Context in which a part of a bundle runs.

    Raises:
        PipelineError: The part raised; it says which part, the kind of error and the line, but not
            the error's message, which may quote the patient's attributes.
    """

    def __init__(self, pipeline: str, name: str) -> None:
        self._pipeline = pipeline
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, NodeError):
            return
        # MONAI wraps what a transform raised
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        short = memory_error(cause, self._pipeline, self._name)
        if short is not None:
            raise short from None
        where = traceback.extract_tb(cause.__traceback__)[-1]
        raise PipelineError(
            f"pipeline {self._pipeline}",
            f"its {self._name} raised {type(cause).__name__} at "
            f"{Path(where.filename).name}:{where.lineno}",
            f"`dicom-node pipelines check {self._pipeline}` runs it on simulated input",
        ) from None
