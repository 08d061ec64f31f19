"""The section `hosts`: one node.yaml for all of them, each with its own name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dicom_node.config import InvalidConfigError, load_config
from tests.unit.config.test_load import GOOD, write

HOSTS = """
hosts:
  certificate: tls/host.pem
  key: tls/host.key
  ca: tls/ca.pem
  token_file: token
"""


def test_without_the_section_all_hosts_share_one_folder(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, GOOD)).this_host is None


def test_a_host_is_called_as_the_file_the_environment_or_the_machine_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DICOM_NODE_HOST", raising=False)
    assert load_config(write(tmp_path, GOOD + HOSTS)).this_host == os.uname().nodename
    monkeypatch.setenv("DICOM_NODE_HOST", "rx-2")
    config = load_config(write(tmp_path, GOOD + HOSTS))
    assert config.hosts is not None
    assert (config.this_host, config.hosts.reached_at) == ("rx-2", "rx-2:11180")
    named = HOSTS + "  this_host: rx-1\n  address: fd00::1\n"
    config = load_config(write(tmp_path, GOOD + named))
    assert config.hosts is not None
    assert (config.this_host, config.hosts.reached_at) == ("rx-1", "[fd00::1]:11180")


def test_its_files_are_taken_from_the_folder_of_node_yaml(tmp_path: Path) -> None:
    section = load_config(write(tmp_path, GOOD + HOSTS)).hosts
    assert section is not None
    assert section.certificate == tmp_path / "tls" / "host.pem"
    assert section.token_file == tmp_path / "token"


@pytest.mark.parametrize("name", ["", "a b", "../etc", "-rx", "x" * 48])
def test_a_name_that_is_none_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DICOM_NODE_HOST", name or " ")
    with pytest.raises(InvalidConfigError, match="is no name of a host"):
        load_config(write(tmp_path, GOOD + HOSTS))
