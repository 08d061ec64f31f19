"""Who runs on a data folder: a name is one process's until it ends, however it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.errors import StoreError
from dicom_node.serve.locks import digests_run, hold, hold_numbered, holders

_HOLD = """
import sys
from pathlib import Path
from dicom_node.serve.locks import hold
held = hold(Path(sys.argv[1]), "coordinator")
print("held" if held else "taken", flush=True)
sys.stdin.read()
"""


def test_a_name_is_held_once_and_free_again_when_closed(tmp_path: Path) -> None:
    first = hold(tmp_path, "coordinator")
    assert first is not None
    assert hold(tmp_path, "coordinator") is None
    assert holders(tmp_path) == {"coordinator": os.getpid()}
    first.close()
    assert holders(tmp_path) == {}
    with hold(tmp_path, "coordinator") as again:  # type: ignore[union-attr]
        assert again is not None


def test_a_killed_process_leaves_its_name_free(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert hold(tmp_path, "coordinator") is None
        assert holders(tmp_path) == {"coordinator": other.pid}
        other.kill()
        other.wait()
    assert holders(tmp_path) == {}
    assert hold(tmp_path, "coordinator") is not None


def test_each_of_several_gets_a_number_and_the_lowest_free_one_first(tmp_path: Path) -> None:
    zero, one = hold_numbered(tmp_path, "worker"), hold_numbered(tmp_path, "worker")
    assert (zero.name, one.name) == ("worker-0", "worker-1")
    zero.close()
    assert hold_numbered(tmp_path, "worker").name == "worker-0"


def test_a_holder_says_by_which_configuration_it_acts(tmp_path: Path) -> None:
    with hold_numbered(tmp_path, "receiver") as held, hold_numbered(tmp_path, "worker"):
        assert digests_run(tmp_path) == {}
        for digest in ("a" * 64, "b" * 64):
            held.runs(digest)
            assert digests_run(tmp_path) == {"receiver-0": digest}
        assert set(holders(tmp_path).values()) == {os.getpid()}
        held.runs("")
        assert digests_run(tmp_path) == {}
        held.runs("c" * 64)
    assert digests_run(tmp_path) == {}, "who is gone acts by none"
    with hold_numbered(tmp_path, "receiver"):
        assert digests_run(tmp_path) == {}, "nor does its successor before it says so"


def test_a_data_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Not a directory") as told:
        hold(tmp_path / "file" / "data", "worker")
    assert "node.data_dir" in told.value.fix


def test_a_folder_without_locks_has_no_holders(tmp_path: Path) -> None:
    assert holders(tmp_path / "none") == {}
