"""The facts of an instance: what routing and pipelines see of a header."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydicom.dataset import Dataset

from dicom_node.model.instances import attributes_of


def _of(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def _group(**macros: Mapping[str, Any]) -> Dataset:
    return _of(**{name: [_of(**values)] for name, values in macros.items()})


def test_an_enhanced_image_says_in_its_shared_groups_what_a_classic_one_says_at_the_top() -> None:
    region = _of(CodeValue="122496007", CodingSchemeDesignator="SCT", CodeMeaning="Lumbar spine")
    image = _of(
        Modality="CT",
        SharedFunctionalGroupsSequence=[
            _group(
                PixelMeasuresSequence={"SliceThickness": 7.5, "PixelSpacing": [0.5, 0.5]},
                CTReconstructionSequence={"ConvolutionKernel": ["B70f", "3"]},
                FrameAnatomySequence={"FrameLaterality": "U", "AnatomicRegionSequence": [region]},
            )
        ],
    )
    found = attributes_of(image)
    assert found["SliceThickness"] == 7.5
    assert found["ConvolutionKernel"] == ["B70f", "3"]
    assert found["FrameLaterality"] == "U"
    assert found["AnatomicRegionSequence"] == [
        {"value": "122496007", "scheme": "SCT", "meaning": "Lumbar spine"}
    ]


def test_what_each_frame_says_is_the_images_when_all_say_the_same() -> None:
    frames = [
        _group(
            CTXRayDetailsSequence={"KVP": 80.0},
            PlanePositionSequence={"ImagePositionPatient": [0, 0, z]},
        )
        for z in (0, 5)
    ]
    found = attributes_of(_of(PerFrameFunctionalGroupsSequence=frames))
    assert found["KVP"] == 80.0
    assert "ImagePositionPatient" not in found


def test_what_stands_at_the_top_goes_before_the_groups() -> None:
    group = _group(PixelMeasuresSequence={"SliceThickness": 1.0})
    image = _of(SliceThickness=3.0, SharedFunctionalGroupsSequence=[group])
    assert attributes_of(image)["SliceThickness"] == 3.0
    assert attributes_of(_of(SharedFunctionalGroupsSequence=[])) == {}
