"""A killed run finds its files whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.training.whole import whole


def cut_off(file: Path) -> None:
    with whole(file) as partial:
        partial.write_text("[1,")
        raise KeyboardInterrupt


def test_a_file_is_there_when_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "fold-0.json"
    with pytest.raises(KeyboardInterrupt):
        cut_off(file)
    assert not file.exists()
    with whole(file) as partial:
        partial.write_text("[1]")
    assert file.read_text() == "[1]"
    assert list(tmp_path.iterdir()) == [file]
