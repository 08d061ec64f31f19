"""One CT as series arrive: whatever the order, the same numbers, or the right refusal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import EnhancedCTImageStorage, generate_uid
from scipy import ndimage

from dicom_node.demo.phantom_studies import ct_study, write_study
from dicom_node.inference.bundles import BUILT_IN, load_bundle
from dicom_node.inference.local import JobInput, LocalExecutor
from dicom_node.model.findings import Findings, Measurement, NotEvaluated
from dicom_node.model.instances import facts_of
from pipelines.lumbar_bmd_ct.anatomy import Anatomy, body_names, load_folder
from tests.integration.conftest import Site
from tests.peers.node import stored

torch.set_num_threads(1)
NAME = "lumbar_bmd_ct"
LEVELS = ("L1", "L2", "L3", "L4")


@cache
def _executor() -> LocalExecutor:
    return LocalExecutor({NAME: load_bundle(BUILT_IN / NAME)}, device="cpu", threads=1)


@pytest.fixture(scope="module")
def anatomy(shared: Path) -> Anatomy:
    """The real unenhanced CT with its masks."""
    (found,) = load_folder(shared / "ct_lumbar")
    return found


def _series(anatomy: Anatomy, key: str = "SERIES", **changes: Any) -> list[FileDataset]:
    """The volume as one series; keywords set attributes of every slice."""
    slices = ct_study(
        anatomy.hu.round().astype(np.int16),
        anatomy.spacing,
        key=key,
        body_part="ABDOMEN",
        description="Abdomen native",
    )
    for dataset in slices:
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
    return slices


def _run(study: Sequence[FileDataset], folder: Path) -> Findings:
    """Through the node's executor, the files in the order given."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, dataset in enumerate(study):
        files.append(folder / f"{number:04}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    facts = tuple(facts_of(d, str(d.file_meta.TransferSyntaxUID)) for d in study)
    job = JobInput(tuple(files), facts, None, datetime(2026, 1, 1, tzinfo=UTC))
    return _executor().run(NAME, job).findings


def _numbers(found: Findings) -> dict[tuple[str, str], float]:
    return {
        (item.subject.name, item.concept.meaning): item.value
        for item in found.items
        if isinstance(item, Measurement)
    }


def _reasons(found: Findings) -> set[str]:
    return {item.reason.value for item in found.items if isinstance(item, NotEvaluated)}


@pytest.fixture(scope="module")
def plain(anatomy: Anatomy, tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """The series as a scanner sends it."""
    return _run(_series(anatomy), tmp_path_factory.mktemp("plain"))


def test_levels_of_the_real_ct_are_right_and_their_hu_near_the_masks(
    anatomy: Anatomy, plain: Findings
) -> None:
    """HU: against the mask without its outermost voxels (3 mm)."""
    names = body_names(anatomy)
    found = {
        item.subject.name: item
        for item in plain.items
        if isinstance(item, Measurement) and item.concept.meaning == "Attenuation Coefficient"
    }
    assert set(found) == set(LEVELS)
    place = {reference: n for n, reference in enumerate(plain.images)}
    for level, item in found.items():
        mask = anatomy.labels == names[level]
        inner = ndimage.binary_erosion(mask)
        assert item.value == pytest.approx(float(anatomy.hu[inner].mean()), abs=5), level
        inside = np.flatnonzero(mask.any((0, 1)))
        read = [place[reference] for reference in item.subject.images]
        assert inside[0] <= min(read) <= max(read) <= inside[-1], level


def test_shuffled_slices_give_the_same_numbers(
    anatomy: Anatomy, plain: Findings, tmp_path: Path
) -> None:
    slices = _series(anatomy)
    np.random.default_rng(4).shuffle(slices)  # type: ignore[arg-type]
    assert _numbers(_run(slices, tmp_path)) == _numbers(plain)


def test_a_localizer_in_the_series_is_left_out_and_said(
    anatomy: Anatomy, plain: Findings, tmp_path: Path
) -> None:
    slices = _series(anatomy)
    localizer = _series(anatomy)[0]
    localizer.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    localizer.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    localizer.SOPInstanceUID = localizer.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    localizer.InstanceNumber = 0
    found = _run([localizer, *slices], tmp_path)
    assert _numbers(found) == _numbers(plain)
    assert any("localizer" in note for note in found.notes)


def test_slices_sent_twice_count_once(anatomy: Anatomy, plain: Findings, tmp_path: Path) -> None:
    slices = _series(anatomy)
    for dataset in (again := _series(anatomy)[40:44]):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.InstanceNumber += 500
    assert _numbers(_run([*slices, *again], tmp_path)) == _numbers(plain)


def test_two_missing_slices_are_refused_not_bridged(anatomy: Anatomy, tmp_path: Path) -> None:
    slices = _series(anatomy)
    found = _run(slices[:50] + slices[52:], tmp_path)
    assert _reasons(found) == {"unfit-geometry"}
    assert _numbers(found) == {}
    assert any("missing" in i.text for i in found.items if isinstance(i, NotEvaluated))


def test_a_tilted_gantry_gives_nearly_the_same_numbers(
    anatomy: Anatomy, plain: Findings, tmp_path: Path
) -> None:
    """The slices cut the bone at another angle: within 8 HU and 8 mg/cm3, the mean within 4."""
    found = _run(_tilted(anatomy, 20.0), tmp_path)
    assert any("tilted by 20 degrees" in note for note in found.notes)
    straight, numbers = _numbers(plain), _numbers(found)
    assert numbers.keys() == straight.keys()
    for what, value in numbers.items():
        assert value == pytest.approx(straight[what], abs=4 if what[0] == "L1-L4" else 8), what


def test_a_gantry_tilted_too_much_is_refused(anatomy: Anatomy, tmp_path: Path) -> None:
    found = _run(_tilted(anatomy, 28.0), tmp_path)
    assert _reasons(found) == {"unfit-geometry"}
    assert any("tilted by 28 degrees" in i.text for i in found.items if isinstance(i, NotEvaluated))


def test_two_spacings_in_one_series_are_refused_as_that(anatomy: Anatomy, tmp_path: Path) -> None:
    slices = _series(anatomy)
    found = _run(slices[:50] + slices[50::2], tmp_path)
    assert _reasons(found) == {"unfit-geometry"}
    (item,) = (i for i in found.items if isinstance(i, NotEvaluated))
    assert "mixes slice spacings (distances: 50 of 3.00 mm and 30 of 6.00 mm)" in item.text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ContrastBolusAgent": "Iohexol"}, "contrast-given"),
        ({"SliceThickness": 7.5}, "slices-too-thick"),
        ({"ConvolutionKernel": "B70f"}, "unfit-kernel"),
        ({"KVP": 80}, "unfit-voltage"),
    ],
)
def test_an_unfit_series_is_refused_with_its_reason(
    anatomy: Anatomy, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    found = _run(_series(anatomy, **changes), tmp_path)
    assert _reasons(found) == {reason}
    assert _numbers(found) == {}


def test_of_several_series_the_fit_one_is_read_and_the_choice_is_explained(
    anatomy: Anatomy, plain: Findings, tmp_path: Path
) -> None:
    study = []
    for number, changes in enumerate(
        ({"ConvolutionKernel": "B70f"}, {}, {"ContrastBolusAgent": "Iohexol"}), start=1
    ):
        uid = generate_uid()
        for dataset in _series(anatomy, SeriesInstanceUID=uid, SeriesNumber=number, **changes):
            if number != 2:
                dataset.SOPInstanceUID = generate_uid()
                dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            study.append(dataset)
    found = _run(study, tmp_path)
    assert _numbers(found) == _numbers(plain)
    (why,) = (note for note in found.notes if "was read" in note)
    assert "series 2 was read of 3" in why
    assert "series 1: a sharp kernel" in why
    assert "series 3: contrast was given" in why


def test_an_enhanced_multi_frame_ct_gives_the_same_numbers(
    anatomy: Anatomy, plain: Findings, tmp_path: Path
) -> None:
    found = _run([_enhanced(_series(anatomy))], tmp_path)
    assert _numbers(found) == pytest.approx(_numbers(plain), abs=1e-3)


def test_a_series_split_over_two_associations_is_one_study(
    site: Site, anatomy: Anatomy, plain: Findings, tmp_path: Path
) -> None:
    """The whole node: a shuffled half first, the rest before the study has settled."""
    slices = _series(anatomy, key="SPLIT")
    study = str(slices[0].StudyInstanceUID)
    order = np.random.default_rng(9).permutation(len(slices))
    for part, chosen in enumerate((order[:60], order[60:])):
        write_study([slices[n] for n in chosen], tmp_path / str(part))
        sent = site.node.send(sorted((tmp_path / str(part)).glob("*.dcm")))
        assert sent.returncode == 0, sent.stdout + sent.stderr

    line = site.node.wait_for_studies([study])[study]
    assert line.instances == len(slices)
    job = line.jobs[-1]
    assert (job.pipeline, job.state) == (NAME, "done"), job.error
    assert job.statement == plain.statement
    assert {i.modality for i in stored(site.pacs) if i.study_uid == study} >= {"SR", "OT"}


def _tilted(anatomy: Anatomy, degrees: float, pixel_mm: float = 1.5) -> list[FileDataset]:
    """The anatomy met by slices of a gantry that leans, the table moving along the body."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    down, across, apart = anatomy.spacing
    height, width, count = anatomy.hu.shape
    shape = (int(height * down / pixel_mm), int(width * across / pixel_mm))
    along = (np.arange(shape[0]) - (shape[0] - 1) / 2) * pixel_mm
    columns = (np.arange(shape[1]) + 0.5) * pixel_mm / across - 0.5
    rows, columns = np.meshgrid((height - 1) / 2 + along * cos / down, columns, indexing="ij")
    rise = (along * sin / apart)[:, None] + np.zeros(shape)
    fine = ndimage.spline_filter(anatomy.hu, 3)
    volume = np.stack(
        [
            ndimage.map_coordinates(fine, [rows, columns, k + rise], cval=-1024, prefilter=False)
            for k in range(count)
        ],
        axis=-1,
    )
    slices = ct_study(
        volume.round().astype(np.int16),
        (pixel_mm, pixel_mm, apart),
        key=f"TILT{degrees}",
        body_part="ABDOMEN",
        description="Abdomen native, tilted",
    )
    for dataset in slices:
        x, y, z = (float(v) for v in dataset.ImagePositionPatient)
        y += -along[0] + along[0] * cos
        dataset.ImagePositionPatient = [x, round(y, 4), round(z + along[0] * sin, 4)]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, round(cos, 6), round(sin, 6)]
    return slices


def _enhanced(slices: Sequence[FileDataset]) -> FileDataset:
    """The series as one enhanced CT (PS3.3 A.38): geometry and rescale in functional groups."""
    made = slices[0]
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    shared, frames = Dataset(), []
    for macro, keywords in {
        "PlaneOrientationSequence": ("ImageOrientationPatient",),
        "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
        "PixelValueTransformationSequence": ("RescaleIntercept", "RescaleSlope", "RescaleType"),
    }.items():
        item = Dataset()
        for keyword in keywords:
            setattr(item, keyword, made.get(keyword))
            delattr(made, keyword)
        setattr(shared, macro, [item])
    for dataset in slices:
        place, frame = Dataset(), Dataset()
        place.ImagePositionPatient = dataset.ImagePositionPatient
        frame.PlanePositionSequence = [place]
        frames.append(frame)
    made.PixelData = b"".join(dataset.PixelData for dataset in slices)
    del made.ImagePositionPatient
    made.NumberOfFrames = len(slices)
    made.SharedFunctionalGroupsSequence = [shared]
    made.PerFrameFunctionalGroupsSequence = frames
    return made
