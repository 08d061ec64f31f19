"""Trust by hash, and which expressions and names need it."""

from __future__ import annotations

import json
import os
import py_compile
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.errors import PipelineError
from dicom_node.inference.bundle_config import (
    check_trust,
    is_part,
    own_code,
    problems,
    read_parser,
)
from dicom_node.inference.bundles import find_bundles, load_bundle
from dicom_node.inference.expressions import imported, why_not_harmless
from dicom_node.inference.trust import TRUSTED, Trust, distrust, hash_of, trust, trust_of
from tests.unit.inference import zoo_bundles as zoo
from tests.unit.inference.tiny_bundles import write_bundle


def judged(expression: str, **aliases: str) -> str | None:
    return why_not_harmless(expression, aliases, is_part)


@pytest.mark.parametrize(
    "expression",
    [
        "$@network_def.to(@device)",
        "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "$@bundle_root + '/models/model.pt'",
        "$torch.float32",
        "$np.float32",
        "$(not @whether_raw)",
        "$[@roi, @roi, 2 * @depth]",
        "$lambda x: x[0] / 255",
        "$@x.shape[-1] if @x.ndim == 4 else 1",
        "$monai.networks.nets.resnet.resnet50(spatial_dims=3,n_input_channels=1)",
        "$@detector.set_box_selector_parameters(score_thresh=0.02,nms_thresh=0.22)",
        "$os.path.join(@bundle_root, 'x')",
    ],
)
def test_an_expression_that_only_computes_is_harmless(expression: str) -> None:
    assert judged(expression, os="os") is None


@pytest.mark.parametrize(
    "expression",
    [
        "$__import__('os').system('true')",
        "$os.system('true')",
        "$open('/etc/passwd').read()",
        "$eval('1')",
        "$().__class__.__mro__",
        "$(lambda: 0).__globals__",
        "$@x.__class__",
        "$@x.__init__('y')",
        "$torch.load('model.pt')",
        "$torch.hub.load('a', 'b')",
        "$monai.bundle.run()",
        "$monai.networks.utils.torch.load('x')",
        "$monai.networks.nets.resnet.resnet50(pretrained=True)",
        "$monai.networks.nets.resnet.resnet50(**@x)",
        "$np.fromfile('x')",
        "$getattr(@x, 'y')",
        "$'{0.__class__}'.format(@x)",
        "$f'{@x.__class__}'",
        "$[x for x in ().__class__.__bases__]",
        "$(lambda torch: torch.tensor('x'))(@x)",
        "$glob.glob('/*')",
        "$import os; os.system('true')",
        "$@x.run()",
        "$10 ** 10 ** 10",
        "$(",
    ],
)
def test_an_expression_that_could_do_more_needs_trust(expression: str) -> None:
    assert judged(expression, os="os", glob="glob") is not None


@given(st.text(alphabet="abcxyz@_.()[]'\"+-*/ ,:0123456789lambda", max_size=40))
def test_no_expression_makes_the_judge_fail(text: str) -> None:
    why = judged(f"${text}")
    assert why is None or why


@given(st.sampled_from(["__class__", "__globals__", "_parameters", "__dict__"]))
def test_no_attribute_that_begins_with_an_underscore_is_harmless(name: str) -> None:
    assert judged(f"$@x.{name}") is not None
    assert judged(f"$torch.{name}") is not None
    assert judged(f"$len(@x.{name})") is not None


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("$import os", ("os", "os")),
        ("$import numpy as n", ("n", "numpy")),
        ("$import os.path", ("os", "os")),
        ("$import subprocess", None),
        ("$from os import system", None),
        ("$import scripts", None),
    ],
)
def test_only_imports_of_common_modules_are_harmless(
    statement: str, found: tuple[str, str] | None
) -> None:
    assert imported(statement) == found


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("monai.transforms.Resized", True),
        ("monai.inferers.SlidingWindowInferer", True),
        ("monai.networks.nets.UNet", True),
        ("monai.apps.detection.networks.retinanet_detector.RetinaNetDetector", True),
        ("torch.nn.Conv3d", True),
        ("pipelines.networks.knee_kl.KneeKL", True),
        ("monai.transforms.LoadImaged", False),
        ("monai.transforms.SaveImaged", False),
        ("monai.transforms.transform.os", False),
        ("monai.networks.utils.torch.load", False),
        ("monai.bundle.run", False),
        ("monai.apps.utils.download_url", False),
        ("torch.load", False),
        ("torch.nn.modules.module.torch.load", False),
        ("os.system", False),
        ("subprocess.run", False),
        ("scripts.network.Net", False),
    ],
)
def test_which_names_any_bundle_may_build(name: str, allowed: bool) -> None:
    assert is_part(name) is allowed


def changed(folder: Path, **keys: Any) -> Path:
    file = folder / "configs" / "inference.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **keys}))
    (folder / "configs" / "dicom.yaml").write_text(
        (write_bundle(folder.parent / "of").joinpath("configs", "dicom.yaml")).read_text()
    )
    return folder


def test_only_what_runs_is_judged(tmp_path: Path) -> None:
    """A Zoo bundle's loaders, handlers and imports are no reason for distrust."""
    folder = changed(zoo.segmentation(tmp_path), initialize=["$__import__('os').system('true')"])
    assert list(problems(read_parser(load_bundle(folder), torch.device("cpu")))) == []


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"inferer": "$__import__('os').getcwd()"}, "inferer"),
        ({"inferer": "@mine", "mine": "$open('x')"}, "mine"),
        ({"inferer": {"_target_": "subprocess.run", "args": ["true"]}}, "subprocess.run"),
        ({"inferer": {"_target_": "SimpleInferer", "_mode_": "debug"}}, "_mode_"),
        ({"inferer": {"_target_": "$@network_def.forward"}}, "_target_"),
        ({"inferer": {"_target_": "$torch.device"}}, "_target_"),
        ({"inferer": {"_target_": "SimpleInferer", "_requires_": "$exit()"}}, "_requires_"),
    ],
)
def test_what_runs_and_is_not_harmless_is_named(
    tmp_path: Path, keys: dict[str, Any], named: str
) -> None:
    bundle = load_bundle(changed(zoo.segmentation(tmp_path), **keys))
    with pytest.raises(PipelineError, match=named) as told:
        check_trust(bundle, read_parser(bundle, torch.device("cpu")))
    assert "dicom-node pipelines trust" in told.value.fix


def test_a_macro_reads_no_file_outside_of_the_bundle(tmp_path: Path) -> None:
    (tmp_path / "outside.json").write_text('{"inferer": 1}')
    folder = changed(zoo.segmentation(tmp_path), inferer="%../outside.json::inferer")
    with pytest.raises(PipelineError, match="outside of the bundle"):
        read_parser(load_bundle(folder), torch.device("cpu"))


def test_a_macro_of_another_file_is_judged_as_if_it_stood_there(tmp_path: Path) -> None:
    folder = changed(zoo.segmentation(tmp_path), inferer="%configs/more.json::inferer")
    (folder / "configs" / "more.json").write_text('{"inferer": {"_target_": "os.system"}}')
    found = list(problems(read_parser(load_bundle(folder), torch.device("cpu"))))
    assert found == ["inferer: it names os.system"]


def test_the_built_in_pipelines_need_no_trust() -> None:
    for bundle in find_bundles().values():
        check_trust(bundle, read_parser(bundle, torch.device("cpu")))


def test_trust_holds_until_a_file_changes_comes_or_goes(tmp_path: Path) -> None:
    folder = zoo.detection(tmp_path)
    assert trust_of(folder) is Trust.NONE
    assert trust(folder) == hash_of(folder)
    assert trust_of(folder) is Trust.TRUSTED
    extra = folder / "scripts" / "more.py"
    extra.write_text("")
    assert trust_of(folder) is Trust.CHANGED
    extra.unlink()
    assert trust_of(folder) is Trust.TRUSTED
    readme = folder / "docs" / "README.md"
    readme.rename(folder / "docs" / "readme.md")
    assert trust_of(folder) is Trust.CHANGED
    assert distrust(folder)
    assert trust_of(folder) is Trust.NONE
    assert not distrust(folder)


def test_the_site_s_own_dicom_yaml_is_no_code(tmp_path: Path) -> None:
    folder = zoo.detection(tmp_path)
    trust(folder)
    (folder / "configs" / "dicom.yaml").write_text("title: x\n")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_bytes(b"compiled")
    assert trust_of(folder) is Trust.TRUSTED


def test_a_compiled_file_beside_trusted_code_is_not_run(tmp_path: Path) -> None:
    """What Python keeps compiled is not hashed, so it must not be what is imported."""
    folder = changed(zoo.detection(tmp_path))
    script = folder / "scripts" / "network.py"
    honest = script.read_text()
    # a compiled file is taken for a source of the same size and time
    script.write_text("raise SystemError('not what was trusted')".ljust(len(honest)))
    os.utime(script, (1_000_000_000, 1_000_000_000))
    compiled = Path(py_compile.compile(str(script)) or "")
    assert compiled.is_file()
    script.write_text(honest)
    os.utime(script, (1_000_000_000, 1_000_000_000))
    trust(folder)
    with own_code(load_bundle(folder)):
        assert import_module("scripts.network").Brightness
    assert "scripts.network" not in sys.modules
    assert str(folder) not in sys.path


def test_a_link_is_never_trusted(tmp_path: Path) -> None:
    folder = zoo.detection(tmp_path)
    (folder / "scripts" / "more.py").symlink_to("/etc/hostname")
    with pytest.raises(PipelineError, match="symbolic link"):
        trust(folder)


def test_a_damaged_list_of_trust_is_told_and_trusts_nothing(tmp_path: Path) -> None:
    folder = zoo.detection(tmp_path)
    (tmp_path / TRUSTED).write_text("detection: yes: no")
    with pytest.raises(PipelineError, match=TRUSTED):
        trust_of(folder)
