"""Labelled images as the network gets them: DICOM read as the node reads it, pictures as crops."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from monai.data import MetaTensor
from PIL import Image, UnidentifiedImageError

from dicom_node.errors import DataFolderError, ImageError
from dicom_node.inference.files import read_header
from dicom_node.inference.guard import Stage
from dicom_node.inference.jobs import JobInput
from dicom_node.inference.parts import Parts
from dicom_node.inference.saliency import crop
from dicom_node.inference.sources import sources_of
from dicom_node.model import own_codes
from dicom_node.model.findings import Side
from dicom_node.model.instances import facts_of
from dicom_node.model.pipeline import InputKind
from dicom_node.model.targets import Rejection, Target
from dicom_node.training.table import Row, is_dicom

_WHITES: Final = (1, *(2**bits - 1 for bits in (8, 10, 12, 14, 16)))
_SIDES: Final = {"R": Side.RIGHT, "L": Side.LEFT}


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One row's image.

    Attributes:
        data: What the preprocessing made, with `image` for the network; None with a `refused`.
        refused: Why the pipeline does not evaluate the image.
    """

    row: Row
    data: dict[str, Any] | None
    refused: str = ""


class Reader:
    """Reads the images of a table.

    A picture (PNG, JPEG, TIFF; 8 to 16 bits, bright bone) is taken for what the locator would cut
    out, and neither locator nor gate looks at it; with `locate` they do. A DICOM image goes the
    node's own way.

    Args:
        name: The pipeline's, for errors.
        mirror_left: The network knows right sides only: pictures of left ones are mirrored.
        locate: Pictures are whole radiographs.
    """

    def __init__(
        self,
        name: str,
        parts: Parts,
        device: torch.device,
        *,
        mirror_left: bool = False,
        locate: bool = False,
    ) -> None:
        self._name = name
        self._parts = parts
        self._device = device
        self._mirror_left = mirror_left
        self._locate = locate

    def cases(self, rows: Sequence[Row]) -> Iterator[Case]:
        """Yield each row's case, in their order.

        Raises:
            DataFolderError: A picture cannot be read.
            PipelineError: A part of the pipeline raised.
        """
        sides: defaultdict[Path, set[str]] = defaultdict(set)
        for row in rows:
            sides[row.file].add(row.side)
        for row in rows:
            of_both = len(sides[row.file]) > 1
            yield self._dicom(row, of_both) if is_dicom(row.file) else self._picture(row, of_both)

    def _picture(self, row: Row, of_both: bool) -> Case:
        side = _SIDES.get(row.side, Side.UNKNOWN)
        image = MetaTensor(
            torch.from_numpy(_grey(row)[None]), meta={"original_channel_dim": 0, "spacing": None}
        )
        if self._locate:
            found = self._located(row, image, {}, of_both)
            if isinstance(found, Rejection):
                return Case(row, None, found.text)
            if found.side is Side.UNKNOWN and side is not Side.UNKNOWN:
                found = replace(found, side=side, side_source="the table", mirror=side is Side.LEFT)
            return self._prepared(row, image, found, {}, gate=True)
        mirror = self._mirror_left and side is Side.LEFT
        target = Target("image", side, "the table", mirror=mirror)
        return self._prepared(row, image, target, {}, gate=False)

    def _dicom(self, row: Row, of_both: bool) -> Case:
        try:
            header = read_header(row.file)
        except ImageError as error:
            return Case(row, None, error.why)  # the file's name may be a patient's
        facts = facts_of(header, str(header.file_meta.get("TransferSyntaxUID", "")))
        job = JobInput((row.file,), (facts,), None, datetime.now(UTC))
        sources = list(sources_of(job, InputKind.RADIOGRAPH))
        if len(sources) != 1:
            return Case(row, None, f"it has {len(sources)} frames")
        source = sources[0]
        if source.values is None:
            return Case(row, None, source.rejection.text if source.rejection else "no pixels")
        image = MetaTensor(
            torch.from_numpy(source.values[None]).to(self._device),
            meta={"original_channel_dim": 0, "spacing": source.spacing},
        )
        target = self._located(row, image, source.attributes, of_both)
        if isinstance(target, Rejection):
            return Case(row, None, target.text)
        return self._prepared(row, image, target, source.attributes, gate=True)

    def _located(
        self, row: Row, image: MetaTensor, attributes: Mapping[str, Any], of_both: bool
    ) -> Target | Rejection:
        """The one target of the image that the row is about, or why there is none.

        Args:
            of_both: The table has a row for each side of the image: one target could be either's.
        """
        if self._parts.locator is None:
            return Target("image", _SIDES.get(row.side, Side.UNKNOWN))
        with Stage(self._name, "locator"):
            found = list(self._parts.locator(image, attributes))
        targets = [item for item in found if isinstance(item, Target)]
        rejections = [item for item in found if isinstance(item, Rejection)]
        wanted = _SIDES.get(row.side)
        if wanted is not None:
            # an image that does not state its side shows what the table says
            alone = len(targets) == 1 and not of_both
            fits = (wanted, Side.UNKNOWN, Side.NONE) if alone else (wanted,)
            targets = [target for target in targets if target.side in fits]
        if len(targets) == 1:
            return targets[0].rejection or targets[0]
        if rejections and not targets:
            return rejections[0]
        of = {"R": " on the right", "L": " on the left"}.get(row.side, "")
        why = f"{len(targets) or 'nothing'} found{of}"
        hint = "; the table needs a column side" if len(targets) > 1 and not of else ""
        return Rejection(own_codes.NOTHING_FOUND, f"{why}{hint}")

    def _prepared(
        self, row: Row, image: MetaTensor, target: Target, attributes: Any, *, gate: bool
    ) -> Case:
        cut = crop(image, target.box, target.mirror)
        data: dict[str, Any] = {"image": cut, "target": target, "attributes": attributes}
        with Stage(self._name, "preprocessing"):
            data = self._parts.preprocessing(data)
        why = data.get("not_evaluated")
        if why is None and gate and self._parts.gate is not None:
            with Stage(self._name, "gate"):
                why = self._parts.gate(data)
        return Case(row, None, why.text) if why is not None else Case(row, data)


def _grey(row: Row) -> npt.NDArray[np.float32]:
    try:
        with Image.open(row.file) as image:
            deep = image.mode.startswith(("I", "F"))
            values = np.asarray(image if deep else image.convert("L"), np.float32)
    except (UnidentifiedImageError, OSError) as error:
        raise DataFolderError(
            str(row.file),
            f"the image of line {row.line} cannot be read: {type(error).__name__}",
            "replace the file, or take its row out of the table",
        ) from None
    return values / np.float32(_white(float(values.max())) if deep else 255)


def _white(highest: float) -> float:
    """White of a picture of more than 8 bits: what as many bits hold as its values need.

    Detectors of 10, 12 and 14 bits are exported in 16 bits as they are; numbers up to 1 are shares.
    """
    return next((white for white in _WHITES if highest <= white), highest)
