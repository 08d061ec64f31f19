"""Bundles and weights by content hash: fetched once, checked, never run when they differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import save_file

from dicom_node.errors import PipelineError
from dicom_node.inference.bundles import BUILT_IN, Bundle, find_bundles
from dicom_node.inference.local import LocalExecutor
from dicom_node.inference.trust import Trust, distrust, trust_of
from dicom_node.model.plain import rows_of
from dicom_node.serve.remote.parcel import Manifest, packed, program_hash, unpacked
from tests.factories import radiograph
from tests.unit.inference import tiny_parts
from tests.unit.inference.job_files import job, spot
from tests.unit.inference.tiny_bundles import write_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    write_bundle(tmp_path / "pipelines")
    return find_bundles([tmp_path / "pipelines"])["tiny"]


class Store:
    """What stands for the object store; counts what is fetched."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.fetched: list[str] = []

    def __call__(self, name: str) -> bytes:
        self.fetched.append(name)
        return self.files[name]


def arrived(folder: Path, bundle: Bundle, change: Callable[[Manifest], Manifest]) -> Bundle:
    manifest, files = packed(bundle)
    return unpacked(change(manifest), Store(files), folder / "cache")


def test_a_bundle_arrives_whole_and_finds_the_same(tmp_path: Path, bundle: Bundle) -> None:
    manifest, files = packed(bundle)
    there = unpacked(manifest, Store(files), tmp_path / "cache")
    assert there.folder != bundle.folder
    assert there.algorithm() == bundle.algorithm()
    assert trust_of(there.folder) is Trust.TRUSTED
    made = job(tmp_path / "in", [radiograph(spot(30, 90))])
    results = [
        rows_of(LocalExecutor({"tiny": one}, device="cpu").run("tiny", made).findings)
        for one in (bundle, there)
    ]
    assert results[0] == results[1]
    assert results[0]


def test_it_is_fetched_once_on_a_machine(tmp_path: Path, bundle: Bundle) -> None:
    manifest, files = packed(bundle)
    store = Store(files)
    for _ in range(3):
        unpacked(manifest, store, tmp_path / "cache")
    assert sorted(store.fetched) == sorted(files)
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_what_was_changed_on_the_machine_is_fetched_again(tmp_path: Path, bundle: Bundle) -> None:
    manifest, files = packed(bundle)
    there = unpacked(manifest, Store(files), tmp_path / "cache")
    there.weights.write_bytes(b"other weights")
    (there.folder / "scripts").mkdir()
    (there.folder / "scripts" / "added.py").write_text("raise SystemExit")
    again = unpacked(manifest, Store(files), tmp_path / "cache")
    again.verify_weights()
    assert not (again.folder / "scripts").exists()


def test_weights_that_arrive_with_another_hash_are_refused(tmp_path: Path, bundle: Bundle) -> None:
    manifest, files = packed(bundle)
    files[manifest.weights] = files[manifest.weights][:-1] + b"\x00"
    with pytest.raises(PipelineError, match="arrived with another SHA-256"):
        unpacked(manifest, Store(files), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*/"))


def test_a_file_that_leads_out_of_its_folder_is_refused(tmp_path: Path, bundle: Bundle) -> None:
    def outside(manifest: Manifest) -> Manifest:
        files = dict(manifest.files)
        files["../../evil"] = files.pop(manifest.weights)
        return replace(manifest, files=files, weights="../../evil")

    manifest, files = packed(bundle)
    files["../../evil"] = files.pop(manifest.weights)
    with pytest.raises(PipelineError, match="leads out of its folder"):
        unpacked(outside(manifest), Store(files), tmp_path / "cache")
    assert not (tmp_path / "evil").exists()


def test_code_that_nobody_trusted_here_is_not_trusted_there(tmp_path: Path, bundle: Bundle) -> None:
    distrust(bundle.folder)
    there = arrived(tmp_path, bundle, lambda manifest: manifest)
    assert trust_of(there.folder) is Trust.NONE
    with pytest.raises(PipelineError, match="runs only if you trust it"):
        LocalExecutor({"tiny": there}, device="cpu").loaded("tiny")


def test_a_change_of_trust_or_of_one_file_is_another_parcel(bundle: Bundle) -> None:
    first = packed(bundle)[0].sha256
    distrust(bundle.folder)
    second = packed(bundle)[0].sha256
    (bundle.folder / "docs.md").write_text("more")
    assert len({first, second, packed(bundle)[0].sha256}) == 3


def test_weights_of_a_built_in_pipeline_travel_and_its_code_does_not(tmp_path: Path) -> None:
    bundle = find_bundles()["knee_kl_ensemble"]
    manifest, files = packed(bundle)
    assert (manifest.built_in, manifest.trusted) == (True, False)
    assert list(files) == [manifest.weights]
    there = unpacked(manifest, Store(files), tmp_path / "cache")
    assert there.folder.parent == BUILT_IN
    assert there.weights.is_relative_to(tmp_path)
    assert there.algorithm() == bundle.algorithm()


def test_weights_outside_of_the_bundle_travel_with_it(tmp_path: Path) -> None:
    write_bundle(tmp_path / "pipelines")
    own = tmp_path / "own.safetensors"
    save_file(tiny_parts.weights(), own)
    bundle = find_bundles([tmp_path / "pipelines"], weights={"tiny": own})["tiny"]
    there = arrived(tmp_path, bundle, lambda manifest: manifest)
    assert there.weights.name == "own.safetensors"
    assert there.algorithm() == bundle.algorithm()


def test_a_cache_that_others_may_write_to_is_not_used(tmp_path: Path, bundle: Bundle) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    with pytest.raises(PipelineError, match="others may write to it"):
        arrived(tmp_path, bundle, lambda manifest: manifest)


def test_the_program_has_one_hash(tmp_path: Path) -> None:
    assert program_hash() == program_hash()
    assert len(program_hash()) == 64
