"""Every object that we make, read by programs that are not ours.

dciodvfy (dicom3tools), PixelMed's DicomSRValidator, DCMTK's dsrdump, dsr2html, dcm2pnm, dcmp2pgm.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.uid import UID

from dicom_node.model.documents import DocumentClass
from dicom_node.model.findings import NotEvaluated, Side, Subject
from dicom_node.model.own_codes import TOO_FEW_SLICES
from dicom_node.model.pipeline import ResultObject
from dicom_node.results.report import Report, ReportObject, build_report
from tests.factories import radiograph
from tests.integration import results_matrix as matrix
from tests.peers.pixelmed import validate_documents
from tests.unit.results import samples

DOCUMENT = Path(__file__).parents[2] / "docs" / "results.md"
CASES = matrix.cases()
BASIC_TEXT = DocumentClass.BASIC_TEXT.uid


def explained(validator: str) -> list[re.Pattern[str]]:
    """What the document explains of a validator's warnings."""
    section = DOCUMENT.read_text(encoding="utf-8").partition(f"### {validator}\n")[2]
    section = section.partition("\n#")[0]
    found = re.findall(r"^\| `(.+?)` \| .{20,}", section, re.MULTILINE)
    assert found
    return [re.compile(text) for text in found]


@dataclass
class Seen:
    """How many objects of each kind were validated, since when."""

    kinds: Counter[str] = field(default_factory=Counter)
    begun: float = field(default_factory=time.monotonic)


@pytest.fixture(scope="module")
def seen() -> Seen:
    return Seen()


def check(item: ReportObject, path: Path, *, render: bool = False) -> None:
    """One object with its other forms, by what can read its kind."""
    for other in item.alternatives:
        check(other, path.with_suffix(f".{other.sop_class_uid}.dcm"))
    path.write_bytes(item.encoded)
    lines = _run("dciodvfy", path, code=None).stderr.splitlines()
    assert [line for line in lines if line.startswith("Error")] == []
    warnings = [line for line in lines if line.startswith("Warning")]
    assert unexplained(warnings, "dciodvfy") == []
    if item.kind == "SR":
        text_only = item.sop_class_uid == BASIC_TEXT
        title = "Diagnostic Imaging Report" if text_only else "Imaging Measurement Report"
        assert title in _run("dsrdump", path).stdout
        # dsr2html 3.6.7 can name every character set in HTML but the Korean one
        korean = "ISO 2022 IR 149" in item.dataset.get("SpecificCharacterSet", "")
        html = _run("dsr2html", *(["--convert-to-utf8"] if korean else []), path).stdout
        assert title in html
        if not text_only:  # highdicom has no class for it
            content = hd.sr.srread(path).content
            whole, drawn = (
                content.get_image_measurement_groups(),
                content.get_planar_roi_measurement_groups(),
            )
            assert whole or drawn
    elif item.kind == "KO":
        assert "Of Interest" in _run("dsrdump", path).stdout
    elif item.kind == "SEG":
        assert hd.seg.segread(path).number_of_segments
    elif item.kind == "SC" and render:
        png = path.with_suffix(".png")
        _run("dcm2pnm", "--write-png", path, png)
        assert png.stat().st_size > 1000


def unexplained(lines: Iterable[str], validator: str) -> list[str]:
    known = explained(validator)
    return [line for line in lines if not any(pattern.search(line) for pattern in known)]


def _run(*command: str | Path, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=60,
    )
    assert code is None or done.returncode == code, done.stderr
    return done


def _content(dataset: Dataset) -> str:
    """A document's content without what is another in each: UIDs."""
    return re.sub(r"\b[0-2](\.\d+){2,}\b", "UID", str(dataset.ContentSequence))


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the cases leave their SRs for PixelMed's validator, which takes all at once."""
    return tmp_path_factory.mktemp("documents")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_results_pass_the_validators(
    case: matrix.Case, tmp_path: Path, documents: Path, seen: Seen
) -> None:
    report = case.report()
    assert report.left_out == ()
    main = report.objects[0]
    for form in (main, *main.alternatives):
        folder = documents / form.sop_class_uid
        folder.mkdir(exist_ok=True)
        (folder / f"{case.name}.dcm").write_bytes(form.encoded)
        seen.kinds[UID(form.sop_class_uid).name.removesuffix(" Storage")] += 1
    assert [item.kind for item in report.objects][:2] == ["SR", "SC"]
    for number, item in enumerate(report.objects):
        check(item, tmp_path / f"{number}.dcm", render=case.charset == "default")
        assert item.dataset.PatientName == case.header().PatientName
        if item is not main:
            seen.kinds[item.kind] += 1


def test_documents_pass_the_validator_of_ihe(
    documents: Path, seen: Seen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All contents, all character sets, all transfer syntaxes; not all their combinations."""
    files = sorted(documents.glob("*/*.dcm"))
    if len(files) < 3 * len(CASES):
        pytest.fail("needs the documents of the whole matrix: run the file, not this test alone")
    chosen = list(_cover(files))
    wrong = _wrong(tmp_path)
    said = validate_documents([*chosen, wrong])
    assert any("not found in context group 100" in line for line in said[wrong])
    lines = [line for file in chosen for line in said[file]]
    assert [line for line in lines if line.startswith("Error")] == []
    left = [line for file in chosen for line in said[file] if not _is_text_only(file, line)]
    assert len(left) < len(lines)
    assert unexplained(left, "DicomSRValidator") == []
    counts = ", ".join(f"{number} {kind}" for kind, number in sorted(seen.kinds.items()))
    with capsys.disabled():
        print(
            f"\nmatrix: {len(CASES)} reports, {counts} by dciodvfy; "
            f"{len(chosen)} SR of {len(files)} by DicomSRValidator; "
            f"{time.monotonic() - seen.begun:.0f} s"
        )


def _is_text_only(file: Path, line: str) -> bool:
    """What it says of every item of a document of no template, as Basic Text SR is."""
    return file.parent.name == BASIC_TEXT and line.endswith("Content Item not in template")


def _cover(files: Iterable[Path]) -> Iterator[Path]:
    """Each content in each form, and each character set and transfer syntax, at least once.

    The validator takes a second for a document, and looks at no more than its content and the
    attributes of its modules.
    """
    known: set[tuple[object, ...]] = set()
    for file in files:
        dataset = dcmread(file)
        charset, syntax = file.stem.split("-", 3)[3].rsplit("-", 1)
        content = (str(dataset.SOPClassUID), _content(dataset))
        new = {content, ("charset", charset), ("syntax", syntax)} - known
        if new:
            known |= new
            yield file


def _wrong(folder: Path) -> Path:
    """A document with a fault, so that the validator's silence about the others means something."""
    made = CASES[0].report().objects[0].dataset
    for item in made.ContentSequence:
        if item.ConceptNameCodeSequence[0].CodeValue == "121058":
            item.ConceptCodeSequence[0].CodeValue = "168537006"
    path = folder / "wrong.dcm"
    made.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_dcmtk_applies_the_presentation_state(photometric: str, tmp_path: Path) -> None:
    grey = np.linspace(0, 4095, 64 * 48).reshape(64, 48).astype(np.uint16)
    header = radiograph(grey, PhotometricInterpretation=photometric)
    right, left = samples.knees(header, (64, 48))
    findings = samples.findings(header, [samples.kl(right), samples.kl(left, 3)])
    spec = matrix.spec_of("knee_kl_ensemble")
    assert spec.objects == [ResultObject.PRESENTATION_STATE]
    report = build_report(findings, [header], matrix.pictures([header]), spec)
    source, state, out = (tmp_path / name for name in ("source.dcm", "state.dcm", "out.pgm"))
    header.save_as(source, enforce_file_format=True)
    state.write_bytes(report.objects[2].encoded)
    _run("dcmp2pgm", "-p", state, source, out)
    shown = np.asarray(Image.open(out)).astype(int)
    assert shown.shape == grey.shape
    brighter_downwards = shown[-1].mean() > shown[0].mean()
    assert brighter_downwards == (photometric == "MONOCHROME2")


def _validate_all(report: Report, folder: Path, *, render: bool) -> None:
    for number, item in enumerate(report.objects):
        check(item, folder / f"{number}.dcm", render=render)


@pytest.mark.parametrize("folder", ["hip_cr", "extremity_cr"])
def test_results_for_real_radiographs_pass_the_validators(
    shared: Path, folder: str, tmp_path: Path
) -> None:
    files = sorted((shared / "dicom" / folder).glob("*.dcm"))
    assert files
    for file in files:
        header = dcmread(file, stop_before_pixels=True)
        spec = matrix.spec_of("hip_fixation_device")
        report = build_report(samples.device(header), [header], matrix.pictures([header]), spec)
        _validate_all(report, tmp_path, render=file is files[0])
        for item in report.objects:
            assert item.dataset.StudyInstanceUID == header.StudyInstanceUID
            assert item.dataset.get("TimezoneOffsetFromUTC") == header.get("TimezoneOffsetFromUTC")


def test_results_for_real_ct_in_every_transfer_syntax_pass_the_validators(
    shared: Path, tmp_path: Path
) -> None:
    files = sorted((shared / "dicom" / "ct_transfer_syntaxes").glob("*.dcm"))
    assert len(files) == 16
    syntaxes = set()
    for file in files:
        header = dcmread(file, stop_before_pixels=True, force=True)
        syntaxes.add(str(header.file_meta.TransferSyntaxUID))
        subject = Subject("series", samples.LUMBAR_SPINE, Side.NONE, (samples.reference(header),))
        item = NotEvaluated(subject, TOO_FEW_SLICES, "one slice is too few")
        report = build_report(
            samples.findings(header, [item]),
            [header],
            matrix.pictures([header]),
            matrix.spec_of("lumbar_bmd_ct"),
        )
        _validate_all(report, tmp_path, render=False)
    assert syntaxes == set(matrix.TRANSFER_SYNTAXES)
