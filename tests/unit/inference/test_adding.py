"""`pipelines add`: folders and ZIP files, wholly or not at all, never outside of their folder."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from dicom_node.errors import PipelineError
from dicom_node.inference import adding
from dicom_node.inference.adding import add
from dicom_node.inference.bundles import find_bundles, load_bundle, model_file
from dicom_node.inference.trust import Trust, trust, trust_of
from tests.unit.inference import zoo_bundles as zoo


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "pipelines"
    folder.mkdir()
    return folder


def zipped(folder: Path, file: Path, inside: str = "") -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, f"{inside}{path.relative_to(folder)}")
    return file


@pytest.mark.parametrize("inside", ["", "sphere_ct_segmentation/"])
def test_a_zip_file_is_added_as_the_folder_is(tmp_path: Path, home: Path, inside: str) -> None:
    bundle = zoo.segmentation(tmp_path)
    file = zipped(bundle, tmp_path / "sphere_ct_segmentation.zip", inside)
    done = add(file, home)
    assert done.folder == home / "sphere_ct_segmentation"
    assert done.proposed
    for path in bundle.rglob("*"):
        if path.is_file():
            copied = done.folder / path.relative_to(bundle)
            assert copied.read_bytes() == path.read_bytes()
    assert [path.name for path in home.iterdir()] == ["sphere_ct_segmentation"]


def test_a_bundle_that_has_a_dicom_yaml_keeps_it(tmp_path: Path, home: Path) -> None:
    bundle = zoo.segmentation(tmp_path)
    (bundle / "configs" / "dicom.yaml").write_text("# mine\n")
    done = add(bundle, home, "mine")
    assert not done.proposed
    assert (done.folder / "configs" / "dicom.yaml").read_text() == "# mine\n"


def test_what_python_and_git_leave_behind_is_not_copied(tmp_path: Path, home: Path) -> None:
    bundle = zoo.detection(tmp_path)
    for name in (".git/config", "scripts/__pycache__/network.pyc", ".env"):
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).write_text("x")
    done = add(bundle, home)
    names = {path.name for path in done.folder.rglob("*")}
    assert names.isdisjoint({".git", "__pycache__", ".env", "network.pyc"})


def test_the_proposal_names_what_a_person_must_fill_in(tmp_path: Path, home: Path) -> None:
    done = add(zoo.classification(tmp_path), home)
    bundle = load_bundle(done.folder)
    assert {"procedure.value", "anatomy.value", "outputs.0.question.value"} <= set(bundle.unfilled)
    zoo.filled_in(done.folder)
    assert load_bundle(done.folder).unfilled == ()
    # one that is not filled in takes no other down with it
    assert set(find_bundles([home])) > {"density_classification"}


ESCAPES = ["../out.txt", "/out.txt", "a/../../out.txt", "C:\\out.txt", "..\\out.txt"]


@pytest.mark.parametrize("name", ESCAPES)
def test_a_zip_file_that_leads_outside_is_refused(tmp_path: Path, home: Path, name: str) -> None:
    file = zipped(zoo.segmentation(tmp_path), tmp_path / "b.zip")
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(name, "x")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(PipelineError, match="outside of the bundle"):
        add(file, home)
    assert sorted(tmp_path.rglob("*")) == before


def test_links_are_refused_in_a_zip_file_and_in_a_folder(tmp_path: Path, home: Path) -> None:
    bundle = zoo.segmentation(tmp_path)
    file = zipped(bundle, tmp_path / "b.zip")
    link = zipfile.ZipInfo("models/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(PipelineError, match="link"):
        add(file, home)
    (bundle / "models" / "link").symlink_to("/etc/passwd")
    with pytest.raises(PipelineError, match="symbolic link"):
        add(bundle, home)
    assert list(home.iterdir()) == []


def test_too_large_a_bundle_is_refused_even_when_its_directory_lies(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = zipped(zoo.segmentation(tmp_path), tmp_path / "b.zip")
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("models/zeros", b"\0" * 3_000_000)
    monkeypatch.setattr(adding, "_MOST_BYTES", 1 << 20)
    with pytest.raises(PipelineError, match="more than"):
        add(file, home)
    monkeypatch.setattr(adding, "_MOST_BYTES", 1 << 30)
    monkeypatch.setattr(adding, "_MOST_FILES", 2)
    with pytest.raises(PipelineError, match="more than 2 files"):
        add(file, home)
    assert list(home.iterdir()) == []


def test_names_are_free_and_plain(tmp_path: Path, home: Path) -> None:
    bundle = zoo.segmentation(tmp_path)
    for name, why in {
        "knee_kl_ensemble": "there is one",
        "../x": "not made of",
        "trusted.yaml": "not made of",
        ".hidden": "not made of",
        "_": "not made of",
    }.items():
        with pytest.raises(PipelineError, match=why):
            add(bundle, home, name)
    add(bundle, home)
    with pytest.raises(PipelineError, match="there is one"):
        add(bundle, home)


def test_trust_in_an_earlier_bundle_does_not_pass_to_another_of_its_name(
    tmp_path: Path, home: Path
) -> None:
    bundle = zoo.detection(tmp_path)
    folder = add(bundle, home).folder
    trust(folder)
    folder.rename(tmp_path / "away")
    assert trust_of(add(bundle, home).folder) is Trust.NONE


@pytest.mark.parametrize("content", [b"PK\x05\x06" + b"\0" * 18, b"nothing", b""])
def test_what_is_no_bundle_is_told(tmp_path: Path, home: Path, content: bytes) -> None:
    file = tmp_path / "b.zip"
    file.write_bytes(content)
    with pytest.raises(PipelineError):
        add(file, home)
    assert list(home.iterdir()) == []


def test_of_several_weights_those_without_code_are_taken(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    assert model_file(tmp_path).name == "model.safetensors"
    (models / "best.ts").touch()
    assert model_file(tmp_path).name == "best.ts"
    for name in ("model.ts", "model.pt", "model.safetensors"):
        (models / name).touch()
        assert model_file(tmp_path).name == name
