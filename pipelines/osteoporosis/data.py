"""Knee joints of a folder of radiographs, their labels, and which images are the same knee."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.torch import load_file

from dicom_node.errors import DataFolderError
from dicom_node.inference.parts import Parts
from dicom_node.training.images import Reader
from dicom_node.training.table import Row, is_dicom, read_cells, read_table
from dicom_node.training.whole import whole

Pixels = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]

CLASSES: Final = ("normal", "osteopenia", "osteoporosis")
LABELS: Final = {name: index for index, name in enumerate(CLASSES)}
COLUMNS: Final = ("label", "kaggle_class")
CERTAIN: Final = ("label", "wani_class")
"""Columns whose class is one of three; that of another column is one of two."""
SAME: Final = 0.985
"""Images that correlate more than this are taken for one."""
_SMALL: Final = 48
UNKNOWN: Final = -1


@dataclass(frozen=True, slots=True)
class Joints:
    """Located joints and their labels.

    Attributes:
        images: uint8 [N, side, side], bright bone, as the pipeline's network gets them.
        two: 0 normal, 1 osteoporosis, of the two-class table; osteopenia of a three-class one is 0.
        three: Index in `CLASSES`, UNKNOWN where only a two-class label is there.
        groups: Images of one patient or nearly the same image have one number.
        sides: "R", "L" or "".
        shapes: Height and width of the radiograph [N, 2]; 0 where it is not a picture.
    """

    images: Pixels
    two: Indices
    three: Indices
    groups: Indices
    sides: tuple[str, ...]
    shapes: Indices

    def __len__(self) -> int:
        return len(self.two)

    def of(self, chosen: Indices | Sequence[int]) -> Joints:
        """Return some of them."""
        return Joints(
            self.images[chosen], self.two[chosen], self.three[chosen], self.groups[chosen],
            tuple(self.sides[n] for n in chosen), self.shapes[chosen],
        )  # fmt: skip

    def possible(self, classes: int) -> torch.Tensor:
        """Return [N, classes]: 1 for each class that an image's label leaves open.

        Of three classes, a two-class "osteoporosis" leaves osteopenia and osteoporosis open: in
        the two-class set many images of that name are known to be osteopenia.
        """
        if classes == 2:
            return torch.eye(2)[torch.from_numpy(self.two)]
        open_classes = torch.eye(3)[torch.from_numpy(self.three.clip(0))]
        of_two = torch.tensor([[1.0, 0, 0], [0, 1, 1]])[torch.from_numpy(self.two)]
        return torch.where(torch.from_numpy(self.three < 0)[:, None], of_two, open_classes)


def read_joints(
    folder: Path,
    name: str,
    parts: Parts,
    splits: Sequence[str] = ("all",),
    note: Callable[[str], None] = print,
    every: Callable[[int, int], None] | None = None,
) -> Joints:
    """Find and cut out the joint of each radiograph of a table, as the pipeline does.

    Args:
        folder: Holds `labels.csv` with `file` or `sop_instance_uid` and `label` (normal,
            osteopenia, osteoporosis) or `kaggle_class` and `wani_class`; `patient` and `side` if
            known.
        every: Called after each image with its number and how many there are.

    Raises:
        DataFolderError: The table cannot be used, or no joint is found.
    """
    rows = read_table(folder, COLUMNS, LABELS, splits)
    reader = Reader(name, parts, torch.device("cpu"), locate=True)
    images, kept, small = [], [], []
    for number, case in enumerate(reader.cases(rows), start=1):
        if every is not None:
            every(number, len(rows))
        if case.data is None:
            note(f"line {case.row.line} left out: {case.refused}")
            continue
        image = torch.as_tensor(case.data["image"])[0].clamp(0, 1) * 255
        images.append(image.round().to(torch.uint8).numpy())
        kept.append(case.row)
        small.append(_whole(case.row))
    if not images:
        raise DataFolderError(
            str(folder), "no knee was found in any image", "check images, labels and sides"
        )
    pixels = np.stack(images)
    two, three = labels_of(folder, kept)
    groups = grouped(
        [pixels.astype(np.float64), np.stack([thumb for thumb, _ in small])],
        [row.group for row in kept],
    )
    return Joints(
        pixels, two, three, groups, tuple(row.side for row in kept),
        np.array([shape for _, shape in small]),
    )  # fmt: skip


def save_joints(joints: Joints, file: Path) -> None:
    """Write joints, so that a resumed run need not find them again."""
    with whole(file) as partial, partial.open("wb") as opened:
        np.savez(
            opened,
            images=joints.images,
            two=joints.two,
            three=joints.three,
            groups=joints.groups,
            sides=np.array(joints.sides),
            shapes=joints.shapes,
        )


def load_joints(file: Path) -> Joints:
    """Read what `save_joints` wrote."""
    with np.load(file) as saved:
        kept = {key: saved[key] for key in saved.files}
    kept["sides"] = tuple(kept["sides"].tolist())
    return Joints(**kept)


def grouped(views: Sequence[npt.NDArray[np.float64]], names: Sequence[str]) -> Indices:
    """Number the groups: images that correlate by more than `SAME` in any view, or share a name.

    Args:
        views: Each [N, h, w]; an image without contrast in a view is like no other there.
    """
    count = len(names)
    same = np.array([[a == b != "" for b in names] for a in names])
    for view in views:
        flat = view.reshape(count, -1)
        flat = flat - flat.mean(1, keepdims=True)
        norm = np.linalg.norm(flat, axis=1, keepdims=True)
        flat = np.divide(flat, norm, out=np.zeros_like(flat), where=norm > 1e-9)
        same |= flat @ flat.T > SAME
    groups = np.arange(count)
    for one, other in zip(*np.nonzero(np.triu(same, 1)), strict=True):
        groups[groups == groups[other]] = groups[one]
    return np.unique(groups, return_inverse=True)[1]


def with_finder(parts: Parts, file: Path) -> Parts:
    """Give the pipeline's network the joint finder of another knee pipeline's weights."""
    own = {
        name.removeprefix("finder."): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in load_file(file).items()
        if name.startswith("finder.")
    }
    parts.network.get_submodule("finder").load_state_dict(own)
    parts.network.eval()
    return parts


def labels_of(folder: Path, rows: Sequence[Row]) -> tuple[Indices, Indices]:
    """Return `two` and `three` of `Joints` for rows of the folder's table."""
    certain: dict[int, int] = {}
    for line, cells in enumerate(read_cells(folder), start=2):
        for column in CERTAIN:
            value = cells.get(column, "").lower()
            if value in CLASSES:
                certain.setdefault(line, LABELS[value])
    two = np.array([int(row.label == 2) for row in rows])
    return two, np.array([certain.get(row.line, UNKNOWN) for row in rows])


def _whole(row: Row) -> tuple[npt.NDArray[np.float64], tuple[int, int]]:
    """The radiograph in small, to tell near duplicates, and its height and width."""
    if is_dicom(row.file):
        return np.zeros((_SMALL, _SMALL)), (0, 0)
    with Image.open(row.file) as image:
        shape = (image.height, image.width)
        # "L" would cut deep pictures off at 255
        small = image.convert("F").resize((_SMALL, _SMALL), Image.Resampling.BOX)
    return np.asarray(small, np.float64), shape
