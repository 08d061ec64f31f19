"""The four studies of the demo, with the finding that was put into each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import FileDataset

from dicom_node.demo.phantom_studies import ct_study, radiograph_study
from dicom_node.model.codes import Code


@dataclass(frozen=True, slots=True)
class DemoStudy:
    """A study and how it should end.

    Attributes:
        expected: For the reader.
        pipelines: Those that run on it; none for a study that no route wants.
        statement_has: What the report's statement must hold.
    """

    name: str
    instances: Sequence[FileDataset]
    expected: str
    pipelines: tuple[str, ...]
    statement_has: str = ""

    @property
    def study_uid(self) -> str:
        return str(self.instances[0].StudyInstanceUID)


def demo_studies() -> list[DemoStudy]:
    """Make the studies; the same every time."""
    return [knee(), hip(), spine(), step_wedge()]


def knee() -> DemoStudy:
    """An AP radiograph of a right knee with severe osteoarthritis put in."""
    from pipelines.phantoms.knee import knee_radiograph

    phantom = knee_radiograph(seed=3, grade=4, side="R")
    return DemoStudy(
        name="knee radiograph",
        instances=radiograph_study(
            phantom.image,
            phantom.spacing_mm,
            key="DEMO-KNEE",
            body_part="KNEE",
            anatomy=Code("72696002", "SCT", "Knee"),
            description="Knee AP",
            laterality="R",
        ),
        expected="Kellgren-Lawrence grade 4 put in",
        pipelines=("knee_kl_ensemble",),
        statement_has="Kellgren-Lawrence grade 4",
    )


def hip() -> DemoStudy:
    """An AP radiograph of a left hip with a sliding hip screw put in, stored as a film reads."""
    from pipelines.phantoms.hip import hip_radiograph

    phantom = hip_radiograph(seed=4, device="sliding_screw", side="L")
    return DemoStudy(
        name="hip radiograph",
        instances=radiograph_study(
            phantom.image,
            phantom.spacing_mm,
            key="DEMO-HIP",
            body_part="HIP",
            anatomy=Code("29836001", "SCT", "Hip"),
            description="Hip AP",
            laterality="L",
            monochrome1=True,
        ),
        expected="sliding hip screw with side plate put in",
        pipelines=("hip_fixation_device",),
        statement_has="sliding hip screw",
    )


def spine() -> DemoStudy:
    """An unenhanced abdominal CT with low bone density put in."""
    from pipelines.phantoms.lumbar import lumbar_ct

    phantom = lumbar_ct(seed=5, bmd_mg_cm3=70.0)
    return DemoStudy(
        name="abdominal CT",
        instances=ct_study(
            phantom.volume,
            phantom.spacing,
            key="DEMO-CT",
            body_part="ABDOMEN",
            description="Abdomen native 3 mm",
        ),
        expected="bone mineral density of L1 to L4, 70 mg/cm³ put in (osteoporosis range)",
        pipelines=("lumbar_bmd_ct",),
        statement_has="osteoporosis",
    )


def step_wedge() -> DemoStudy:
    """A quality-control exposure of an aluminium step wedge: no route wants it."""
    return DemoStudy(
        name="quality control",
        instances=radiograph_study(
            _step_wedge(512, 384),
            0.2,
            key="DEMO-QC",
            body_part="",
            description="Step wedge QC",
            view="",
        ),
        expected="a test object, wanted by no route",
        pipelines=(),
    )


def _step_wedge(height: int, width: int) -> npt.NDArray[np.uint16]:
    steps = np.repeat(np.linspace(300, 3700, 12), height // 12 + 1)[:height]
    rng = np.random.default_rng(1)
    noisy = steps[:, None] + rng.normal(0, 15, (height, width))
    return np.clip(noisy, 0, 4095).astype(np.uint16)
