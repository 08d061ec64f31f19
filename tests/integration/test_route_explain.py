"""`dicom-node route --explain` on real files, with the demo's routes and the shipped pipelines."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicom_node.cli.app import main
from dicom_node.config import load_config
from dicom_node.demo.pacs import Pacs
from dicom_node.demo.show import _write_config
from dicom_node.store.database import Database
from tests.factories import radiograph

Run = Callable[..., tuple[int, str, str]]
NAMES = ("knee radiographs", "hip radiographs", "abdominal CT without contrast")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pacs = Pacs("a PACS", "PACS", 4242, "nowhere")
    return _write_config(tmp_path_factory.mktemp("node"), pacs)[0]


@pytest.fixture
def explain(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run the command in this process; returns its exit status, output and errors."""

    def run(what: Path | str, *options: str) -> tuple[int, str, str]:
        words = ["dicom-node", "route", "--explain", str(what), "--config", str(config), *options]
        monkeypatch.setattr(sys, "argv", words)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        out, err = capsys.readouterr()
        return code if isinstance(code, int) else 0, out, err

    return run


@pytest.fixture
def decisions(explain: Run) -> Callable[[Path], list[dict[str, Any]]]:
    """Return what `--json` prints for a file or folder, one entry a study."""

    def run(what: Path) -> list[dict[str, Any]]:
        code, out, _ = explain(what, "--json")
        assert code == 0
        found = json.loads(out)
        assert isinstance(found, list)
        return found

    return run


Decisions = Callable[[Path], list[dict[str, Any]]]


def reason(knee: str, hip: str, ct: str) -> str:
    """Return an unrouted reason; routes that fail alike share an entry."""
    shared: dict[str, list[str]] = {}
    for name, told in zip(NAMES, (knee, hip, ct), strict=True):
        shared.setdefault(told, []).append(f"“{name}”")
    return " | ".join(f"{', '.join(names)}: {told}" for told, names in shared.items())


def test_the_eight_hip_radiographs_go_to_the_hip_pipeline(
    shared: Path, decisions: Decisions
) -> None:
    files = sorted((shared / "dicom" / "hip_cr").glob("RG2_*.dcm"))
    assert len(files) == 8
    images = []
    for study in decisions(shared / "dicom" / "hip_cr"):
        assert study["unrouted_reason"] is None
        assert [r["route"] for r in study["routes"] if r["matched"]] == ["hip radiographs"]
        (job,) = study["jobs"]
        assert (job["pipeline"], job["send_to"]) == ("hip_fixation_device", ["pacs"])
        assert job["not_evaluated"] is None
        images += job["images"]
    assert sorted(images) == sorted(str(dcmread(f).SOPInstanceUID) for f in files)


def test_each_hip_file_alone_goes_there_too(shared: Path, decisions: Decisions) -> None:
    for file in sorted((shared / "dicom" / "hip_cr").glob("RG2_*.dcm")):
        (study,) = decisions(file)
        assert [job["pipeline"] for job in study["jobs"]] == ["hip_fixation_device"], file.name


def test_a_knee_mr_goes_to_no_pipeline_though_it_is_a_knee(
    shared: Path, decisions: Decisions
) -> None:
    film = "modality is MR, wanted CR or DX"
    for study in decisions(shared / "dicom" / "knee_mr"):
        assert study["jobs"] == []
        assert study["unrouted_reason"] == reason(film, film, "modality is MR, wanted CT")
        conditions = study["routes"][0]["groups"][0]["conditions"]
        body_part = next(c for c in conditions if c["condition"] == "body_part")
        assert body_part["holds"]
        assert body_part["where"] == "StudyDescription (0008,1030)"


def test_a_lower_leg_is_no_knee(shared: Path, decisions: Decisions) -> None:
    (study,) = decisions(shared / "dicom" / "extremity_cr")
    seen = "body part is EXTREMITY (lowerleg), wanted"
    assert study["jobs"] == []
    assert study["unrouted_reason"] == reason(
        f"{seen} knee", f"{seen} hip", "modality is CR, wanted CT"
    )
    conditions = study["routes"][0]["groups"][0]["conditions"]
    body_part = next(c for c in conditions if c["condition"] == "body_part")
    assert (
        "made precise by “[LOWER LEG ]” in AcquisitionDeviceProcessingDescription"
        in (body_part["note"])
    )


@pytest.mark.parametrize(
    ("file", "knee", "hip", "ct"),
    [
        (
            "mixed/RG1_chest_cr_J2KI.dcm",
            "body part is CHEST, wanted knee",
            "body part is CHEST, wanted hip",
            "modality is CR, wanted CT",
        ),
        *(
            (
                f"mixed/{modality}1_J2KR.dcm",
                *[f"modality is {modality}, wanted CR or DX"] * 2,
                f"modality is {modality}, wanted CT",
            )
            for modality in ("US", "XA", "NM")
        ),
        (
            "mixed/CT1_J2KR.dcm",
            *["modality is CT, wanted CR or DX"] * 2,
            "body part is not given, wanted abdomen or lspine",
        ),
        (
            "ct_transfer_syntaxes/BigEndianExplicit_1.2.840.10008.1.2.2.dcm",
            *["modality is CT, wanted CR or DX"] * 2,
            "body part is HELICAL CHEST (chest), wanted abdomen or lspine",
        ),
        (
            "ct_transfer_syntaxes/DeflatedExplicitVRLittleEndian_1.2.840.10008.1.2.1.99.dcm",
            *["modality is CT, wanted CR or DX"] * 2,
            "body part is HELICAL CHEST (chest), wanted abdomen or lspine",
        ),
        (
            "ct_missing_uids/slice_01.dcm",
            *["modality is CT, wanted CR or DX"] * 2,
            "body part is AA - RibRangesDefault (chest), wanted abdomen or lspine",
        ),
    ],
)  # fmt: skip
def test_other_images_go_to_no_pipeline_and_the_reason_is_the_telling_one(
    shared: Path, decisions: Decisions, file: str, knee: str, hip: str, ct: str
) -> None:
    (study,) = decisions(shared / "dicom" / file)
    assert study["jobs"] == []
    assert study["unrouted_reason"] == reason(knee, hip, ct)


def test_an_object_without_pixels_is_left_out(shared: Path, decisions: Decisions) -> None:
    (study,) = decisions(shared / "dicom" / "mixed" / "no-pixel-data.dcm")
    assert study["jobs"] == []
    assert study["unrouted_reason"] == "no image (Basic Text SR Storage)"


def test_every_real_file_is_explained_without_its_patient(shared: Path, explain: Run) -> None:
    for form in ((), ("--json",)):
        code, out, _ = explain(shared / "dicom", *form)
        assert code == 0
        values = re.sub(r"\([0-9A-F]{4},[0-9A-F]{4}\)", "", out)
        for file in sorted((shared / "dicom").rglob("*.dcm")):
            header = dcmread(file, stop_before_pixels=True)
            for keyword in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber"):
                value = str(header.get(keyword) or "").strip()
                if len(value) > 3:
                    found = re.search(rf"(?<![\w.]){re.escape(value)}(?![\w.])", values)
                    assert found is None, f"{keyword} of {file.name}"


def test_the_text_for_a_person_shows_each_rule_condition_value_and_place(
    shared: Path, explain: Run
) -> None:
    code, out, err = explain(shared / "dicom" / "hip_cr" / "RG2_UNC.dcm")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("study 1.3.6.1.4.1.5962.")
    assert lines[1] == "hip_fixation_device runs on 1 image; reports to pacs"
    assert "route “knee radiographs”: does not match" in lines
    assert "route “hip radiographs”: matches" in lines
    assert "    no   body_part  HIP        wanted knee      BodyPartExamined (0018,0015)" in lines
    assert "    yes  body_part  HIP  wanted hip       BodyPartExamined (0018,0015)" in lines
    assert "pipeline hip_fixation_device: what it takes of these images" in lines
    assert "\x1b" not in out


def test_a_sender_can_be_assumed(tmp_path: Path, config: Path, explain: Run) -> None:
    film = tmp_path / "film.dcm"
    radiograph(BodyPartExamined="KNEE").save_as(film, enforce_file_format=True)
    text = config.read_text(encoding="utf-8").replace(
        "modality:\n    - CR\n", "sender: xray\n    modality:\n    - CR\n", 1
    )
    assert "sender: xray" in text
    config_with_sender = config.with_name("sender.yaml")
    config_with_sender.write_text(text, encoding="utf-8")
    _, alone, _ = explain(film, "--config", str(config_with_sender))
    assert "it was not received from anyone" in alone
    _, sent, _ = explain(film, "--config", str(config_with_sender), "--sender", "XRAY")
    assert "knee_kl_ensemble runs on 1 image" in sent
    assert "XRAY (peer xray)" in sent


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_path_that_is_not_there(explain: Run, tmp_path: Path, form: tuple[str, ...]) -> None:
    code, out, err = explain(tmp_path / "nowhere", *form)
    assert (code, out) == (1, "")
    assert "nowhere: there is no such file or folder" in err
    assert "fix: name a DICOM file, a folder of them, or the UID of a study" in err


def test_a_file_that_is_not_dicom(explain: Run, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no DICOM")
    code, out, err = explain(tmp_path / "note.txt")
    assert (code, out) == (1, "")
    assert "note.txt: it is not a DICOM file" in err
    assert "fix:" in err


def test_an_empty_folder(explain: Run, tmp_path: Path) -> None:
    code, out, err = explain(tmp_path)
    assert (code, out) == (1, "")
    assert "it holds no DICOM file" in err
    assert "fix:" in err


def test_a_study_that_was_never_received(explain: Run, config: Path) -> None:
    code, out, err = explain("1.2.3.4.5")
    assert (code, out) == (1, "")
    assert "there is none yet" in err, "explaining makes no database"
    database = Database(load_config(config).database_url)
    database.migrate()
    database.close()
    code, out, err = explain("1.2.3.4.5")
    assert (code, out) == (1, "")
    assert "study 1.2.3.4.5: it is not in the index" in err


def test_a_configuration_that_is_wrong(explain: Run, tmp_path: Path) -> None:
    wrong = tmp_path / "node.yaml"
    wrong.write_text("node: {ae_title: AINODE}\nroutez: []\n")
    code, out, err = explain(tmp_path, "--config", str(wrong))
    assert (code, out) == (2, "")
    assert "routez" in err


def test_what_cannot_be_read_is_left_out_and_said_so(explain: Run, tmp_path: Path) -> None:
    film = radiograph(BodyPartExamined="KNEE", PatientName="Zyxwvut^Test")
    film.save_as(tmp_path / "film.dcm", enforce_file_format=True)
    (tmp_path / "note.txt").write_text("no DICOM")
    whole = (tmp_path / "film.dcm").read_bytes()
    for size in range(400, 1000, 7):
        (tmp_path / f"cut{size}.dcm").write_bytes(whole[:size])
    code, out, err = explain(tmp_path)
    assert code == 0
    assert "knee_kl_ensemble runs on 1 image" in out
    assert "1 files left out: they are not DICOM" in err
    assert "Traceback" not in err
    assert "Zyxwvut" not in out + err


def test_a_garbled_patient_module_is_not_quoted_in_a_warning(config: Path, tmp_path: Path) -> None:
    film = radiograph(BodyPartExamined="KNEE")
    film.save_as(tmp_path / "film.dcm", enforce_file_format=True)
    whole = (tmp_path / "film.dcm").read_bytes()
    patient_id = b"\x10\x00\x20\x00LO\x08\x00PHANTOM "
    assert patient_id in whole
    too_long = b"\x10\x00\x20\x00LO\x50\x00" + b"Zyxw" * 20
    (tmp_path / "film.dcm").write_bytes(whole.replace(patient_id, too_long))
    words = [sys.executable, "-m", "dicom_node", "route", "--explain", str(tmp_path / "film.dcm")]
    done = subprocess.run(
        [*words, "-c", str(config)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "knee_kl_ensemble runs on 1 image" in done.stdout
    assert "Zyx" not in done.stdout


def test_the_installed_command_does_the_same(shared: Path, config: Path) -> None:
    file = shared / "dicom" / "hip_cr" / "RG2_JPLY.dcm"
    words = [sys.executable, "-m", "dicom_node", "route", "--explain", str(file), "-c", str(config)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "hip_fixation_device runs on 1 image; reports to pacs" in done.stdout
    missing = [*words[:5], str(file.with_name("nothing.dcm")), *words[6:]]
    done = subprocess.run(missing, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no such file or folder" in done.stderr
