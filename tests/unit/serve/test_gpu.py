"""What nvidia-smi says, read."""

from __future__ import annotations

from dicom_node.serve.gpu import Gpu, parsed


def test_a_line_is_a_gpu() -> None:
    text = "NVIDIA H200, 1024, 143771, 37, 41\nNVIDIA T400, 12, 2048, [N/A], 50\n"
    assert parsed(text) == [
        Gpu("NVIDIA H200", 1024, 143771, 37, 41),
        Gpu("NVIDIA T400", 12, 2048, None, 50),
    ]


def test_what_is_no_line_of_it_is_left_out() -> None:
    assert parsed("No devices were found\n") == []
