"""Every object that we make, read by programs that are not ours: dciodvfy, dsrdump, dcm2pnm."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_node.model.findings import Findings, NotEvaluated, Side, Subject
from dicom_node.model.own_codes import TOO_FEW_SLICES
from dicom_node.results import ReportObject, build_report
from tests.unit.results import samples

CHARACTER_SETS = {
    "default": ([], "Mueller^Jan"),
    "latin-1": (["ISO_IR 100"], "Müller^Jörg"),
    "utf-8": (["ISO_IR 192"], "Wang^XiaoDong=王^小東"),
    "japanese": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "korean": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    "chinese": (["GB18030"], "Wang^XiaoDong=王^小东"),
    "cyrillic": (["ISO_IR 144"], "Люкceмбypг"),
    "arabic": (["ISO_IR 127"], "قباني^لنزار"),
    "greek": (["ISO_IR 126"], "Διονυσιος"),
}


def _named(header: Dataset, charset: str) -> Dataset:
    values, name = CHARACTER_SETS[charset]
    if values:
        header.SpecificCharacterSet = values
    header.PatientName = name
    return header


def _one(header: Dataset) -> tuple[Findings, list[Dataset]]:
    return samples.findings(header, [samples.kl(samples.one_knee(header))]), [header]


def _two(header: Dataset) -> tuple[Findings, list[Dataset]]:
    right, left = samples.knees(header, (64, 48))
    items = [
        samples.kl(right),
        samples.grad_cam(right, (64, 48)),
        samples.kl(left, 3),
        samples.grad_cam(left, (64, 48)),
    ]
    return samples.findings(header, items), [header]


def _declined(header: Dataset) -> tuple[Findings, list[Dataset]]:
    return samples.not_evaluated(header), [header]


def _device(header: Dataset) -> tuple[Findings, list[Dataset]]:
    return samples.device(header), [header]


RADIOGRAPH_CASES = {"one": _one, "two": _two, "declined": _declined, "device": _device}
RADIOGRAPHS = {"dx": samples.knee_header, "cr": samples.cr_header}
MATRIX = list(itertools.product(RADIOGRAPH_CASES, RADIOGRAPHS, CHARACTER_SETS))


def _pictures(headers: Sequence[Dataset]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {
        str(h.SOPInstanceUID): random.integers(0, 255, (int(h.Rows), int(h.Columns)), np.uint8)
        for h in headers
    }


def _errors(path: Path) -> list[str]:
    done = subprocess.run(
        ["dciodvfy", str(path)], capture_output=True, text=True, errors="replace", check=False
    )
    return [line for line in done.stderr.splitlines() if line.startswith("Error")]


def _validate(item: ReportObject, folder: Path, *, render: bool = True) -> None:
    path = folder / f"{item.kind}.dcm"
    path.write_bytes(item.encoded)
    assert _errors(path) == []
    if item.kind == "SR":
        done = subprocess.run(
            ["dsrdump", str(path)], capture_output=True, text=True, errors="replace", check=False
        )
        assert done.returncode == 0, done.stderr
        assert "Imaging Measurement Report" in done.stdout
        assert hd.sr.srread(path).content.get_image_measurement_groups()
    elif render:
        png = folder / "picture.png"
        subprocess.run(["dcm2pnm", "--write-png", str(path), str(png)], check=True, timeout=60)
        assert png.stat().st_size > 1000


@pytest.mark.parametrize(("case", "source", "charset"), MATRIX)
def test_radiograph_results_pass_the_validators(
    case: str, source: str, charset: str, tmp_path: Path
) -> None:
    header = _named(RADIOGRAPHS[source](), charset)
    findings, headers = RADIOGRAPH_CASES[case](header)
    report = build_report(findings, headers, _pictures(headers), samples.SPEC)
    assert [item.kind for item in report.objects] == ["SR", "SC"]
    for item in report.objects:
        _validate(item, tmp_path, render=charset == "default")
        read = dcmread(tmp_path / f"{item.kind}.dcm")
        assert str(read.PatientName) == str(header.PatientName)


@pytest.mark.parametrize("charset", CHARACTER_SETS)
@pytest.mark.parametrize("demonstration", [True, False])
def test_ct_results_pass_the_validators(charset: str, demonstration: bool, tmp_path: Path) -> None:
    headers = [_named(header, charset) for header in samples.ct_series()]
    findings = samples.vertebrae(headers)
    findings = replace(findings, algorithm=replace(findings.algorithm, demonstration=demonstration))
    report = build_report(findings, headers, _pictures(headers), samples.CT_SPEC)
    for item in report.objects:
        _validate(item, tmp_path, render=charset == "default")
        assert ("Demonstration" in _said(item.dataset)) is demonstration


def _said(dataset: Dataset) -> str:
    return str(dataset.ContributingEquipmentSequence[0].ContributionDescription)


def _real(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.dcm"))


@pytest.mark.parametrize("folder", ["hip_cr", "extremity_cr"])
def test_results_for_real_radiographs_pass_the_validators(
    shared: Path, folder: str, tmp_path: Path
) -> None:
    files = _real(shared / "dicom" / folder)
    assert files
    for file in files:
        header = dcmread(file, stop_before_pixels=True)
        report = build_report(samples.device(header), [header], _pictures([header]), samples.SPEC)
        for item in report.objects:
            _validate(item, tmp_path, render=file is files[0])
            assert item.dataset.StudyInstanceUID == header.StudyInstanceUID
            assert item.dataset.get("TimezoneOffsetFromUTC") == header.get("TimezoneOffsetFromUTC")


def test_results_for_real_ct_in_every_transfer_syntax_pass_the_validators(
    shared: Path, tmp_path: Path
) -> None:
    files = _real(shared / "dicom" / "ct_transfer_syntaxes")
    assert len(files) == 16
    for file in files:
        header = dcmread(file, stop_before_pixels=True, force=True)
        subject = Subject("series", samples.LUMBAR_SPINE, Side.NONE, (samples.reference(header),))
        item = NotEvaluated(subject, TOO_FEW_SLICES, "one slice is too few")
        report = build_report(
            samples.findings(header, [item]), [header], _pictures([header]), samples.CT_SPEC
        )
        for made in report.objects:
            _validate(made, tmp_path, render=False)
