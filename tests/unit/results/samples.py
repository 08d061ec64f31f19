"""Findings and source headers for the tests of the results stage; all of it is invented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import ComputedRadiographyImageStorage

from dicom_node.model.codes import Code
from dicom_node.model.findings import (
    Algorithm,
    Classification,
    Finding,
    Findings,
    ImageReference,
    Label,
    Measurement,
    NotEvaluated,
    Region,
    Saliency,
    Side,
    Subject,
)
from dicom_node.model.own_codes import (
    DEVICE_MANUFACTURER,
    DEVICE_MODEL,
    FIXATION_DEVICE,
    KL_0,
    KL_1,
    KL_2,
    KL_3,
    KL_4,
    KL_GRADE,
    NO_DEVICE,
    NOT_IN_CATALOGUE,
    TRABECULAR_BMD,
    TRABECULAR_REGION,
    WRONG_VIEW,
)
from dicom_node.model.pipeline import InputKind, PipelineSpec
from tests.factories import ct_slice, radiograph

KNEE = Code("72696002", "SCT", "Knee")
HIP = Code("29836001", "SCT", "Hip")
KNEE_RADIOGRAPH = Code("241079002", "SCT", "Plain X-ray of knee")
VERTEBRA = Code("14293000", "SCT", "First lumbar vertebra")
LUMBAR_SPINE = Code("122496007", "SCT", "Lumbar spine")
CT_ABDOMEN = Code("169070004", "SCT", "Computed tomography of abdomen")
MG_CM3 = Code("mg/cm3", "UCUM", "mg/cm3")
MEAN = Code("373098007", "SCT", "Mean")
STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

ALGORITHM = Algorithm(
    name="knee_kl_ensemble",
    title="Knee Kellgren-Lawrence grade",
    version="0.1.0",
    weights_sha256="3f" * 32,
    device_uid="2.25.1234567890",
    manufacturer="dicom-node",
    demonstration=True,
    family=Code("123110", "DCM", "Artificial Intelligence"),
)

SPEC = PipelineSpec.model_validate(
    {
        "title": "Knee Kellgren-Lawrence grade",
        "procedure": {"value": "241079002", "scheme": "SCT", "meaning": "Plain X-ray of knee"},
        "anatomy": {"value": "72696002", "scheme": "SCT", "meaning": "Knee"},
        "input": {"kind": "radiograph"},
        "outputs": [],
        "statement": "{subject}",
        "series_number": 9100,
    }
)

CT_SPEC = SPEC.model_copy(
    update={
        "title": "Lumbar BMD from unenhanced CT",
        "series_number": 9300,
        "input": SPEC.input.model_copy(update={"kind": InputKind.VOLUME}),
    }
)

KL_LABELS = tuple(
    Label(code, f"KL {grade}") for grade, code in enumerate((KL_0, KL_1, KL_2, KL_3, KL_4))
)
DEVICE_LABELS = (
    Label(NO_DEVICE, "no device"),
    Label(
        Code("dev-pfna", "99SITE", "PFNA"),
        "proximal femoral nail",
        ((DEVICE_MANUFACTURER, "Example Implants"), (DEVICE_MODEL, "Nail 240")),
    ),
    Label(NOT_IN_CATALOGUE, "not in the catalogue"),
)


def reference(header: Dataset, frame: int | None = None) -> ImageReference:
    return ImageReference(
        str(header.SOPClassUID), str(header.SOPInstanceUID), str(header.SeriesInstanceUID), frame
    )


def kl(subject: Subject, predicted: int = 2) -> Classification:
    probabilities = np.full(5, 0.05)
    probabilities[predicted] = 0.71
    probabilities[(predicted + 1) % 5] = 0.14
    return Classification(
        subject,
        KL_GRADE,
        KL_LABELS,
        tuple(float(p) for p in probabilities / probabilities.sum()),
        predicted,
        prediction_set=(predicted, (predicted + 1) % 5),
        coverage=0.9,
    )


def blob(
    shape: tuple[int, int], box: tuple[int, int, int, int], at: tuple[float, float] = (0.5, 0.5)
) -> npt.NDArray[np.float32]:
    """A round bright spot in a box, 0..1."""
    left, top, width, height = box
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    x = (columns - left - at[0] * width) / (0.22 * width)
    y = (rows - top - at[1] * height) / (0.12 * height)
    inside = (columns >= left) & (columns < left + width) & (rows >= top) & (rows < top + height)
    return (np.exp(-(x**2 + y**2) / 2) * inside).astype(np.float32)


def grad_cam(subject: Subject, shape: tuple[int, int]) -> Saliency:
    box = subject.box or (0, 0, shape[1], shape[0])
    return Saliency(subject, subject.images[0], blob(shape, box), "KL 2", "Grad-CAM", "features.7")


def findings(
    header: Dataset | Sequence[Dataset],
    items: Sequence[Finding],
    *,
    algorithm: Algorithm = ALGORITHM,
    procedure: Code = KNEE_RADIOGRAPH,
    statement: str = "Right knee: Kellgren-Lawrence grade 2, probability 71 %.",
) -> Findings:
    headers = [header] if isinstance(header, Dataset) else list(header)
    return Findings(
        algorithm,
        procedure,
        statement,
        tuple(reference(h) for h in headers),
        tuple(items),
        STARTED,
    )


def knee_header(shape: tuple[int, int] = (64, 48), **attributes: object) -> Dataset:
    return radiograph(np.zeros(shape, np.uint16), **attributes)


def cr_header(**attributes: object) -> Dataset:
    header = radiograph(**attributes)
    header.SOPClassUID = ComputedRadiographyImageStorage
    header.Modality = "CR"
    return header


def knees(header: Dataset, shape: tuple[int, int]) -> tuple[Subject, Subject]:
    """Both knees of a bilateral film; the patient's right is on the left of the image."""
    height, width = shape
    size = (int(width * 0.36), int(height * 0.5))
    image = reference(header)
    left = (int(width * 0.08), height // 4, *size)
    right = (int(width * 0.56), height // 4, *size)
    return (
        Subject("right knee", KNEE, Side.RIGHT, (image,), left, "position in the image"),
        Subject("left knee", KNEE, Side.LEFT, (image,), right, "position in the image"),
    )


def one_knee(header: Dataset, side: Side = Side.RIGHT) -> Subject:
    name = {Side.RIGHT: "right knee", Side.LEFT: "left knee"}.get(side, "knee")
    return Subject(name, KNEE, side, (reference(header),), None, "Laterality (0020,0060)")


def not_evaluated(header: Dataset) -> Findings:
    subject = one_knee(header)
    item = NotEvaluated(subject, WRONG_VIEW, "the image is not an AP view of the knee")
    return findings(header, [item], statement="Not evaluated: not an AP view of the knee.")


def device(header: Dataset) -> Findings:
    subject = Subject("right hip", HIP, Side.RIGHT, (reference(header),), None)
    item = Classification(subject, FIXATION_DEVICE, DEVICE_LABELS, (0.02, 0.95, 0.03), 1, (1,), 0.9)
    algorithm = replace(
        ALGORITHM, name="hip_fixation_device", title="Hip fixation device", demonstration=False
    )
    return findings(header, [item], algorithm=algorithm, statement="PFNA, probability 95 %.")


def ct_series(depth: int = 24, size: int = 64) -> list[Dataset]:
    slices = []
    for z in range(depth):
        header = ct_slice(
            np.zeros((size, size), np.uint16),
            5.0 * z,
            study="1.2.826.0.1.3680043.8.498.1",
            series="1.2.826.0.1.3680043.8.498.2",
            number=z + 1,
        )
        header.PixelSpacing = [2.0, 2.0]
        header.SliceThickness = 5.0
        header.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.3"
        header.PositionReferenceIndicator = ""
        slices.append(header)
    return slices


def vertebrae(headers: Sequence[Dataset], *, size: int = 64) -> Findings:
    """BMD and HU of two vertebrae with their regions, and the patient's mean."""
    items: list[Finding] = []
    for number, start in ((1, 14), (2, 8)):
        part = list(headers[start : start + 4])
        subject = Subject(f"L{number}", VERTEBRA, Side.NONE, tuple(reference(h) for h in part))
        mask = np.zeros((4, size, size), bool)
        mask[
            :, size // 2 : size // 2 + size // 8, size // 2 - size // 12 : size // 2 + size // 12
        ] = 1
        items += [
            Measurement(
                subject,
                TRABECULAR_BMD,
                132.4 - 9 * number,
                MG_CM3,
                uncertainty=11.3,
                normal_range=(120.0, None),
                method="mean of a CNN over axial images through the vertebral body",
            ),
            Measurement(
                subject,
                Code("112031", "DCM", "Attenuation Coefficient"),
                141.0,
                Code("[hnsf'U]", "UCUM", "Hounsfield unit"),
                derivation=MEAN,
            ),
            Region(subject, TRABECULAR_REGION, mask),
        ]
    whole = Subject("L1-L4", LUMBAR_SPINE, Side.NONE, tuple(reference(h) for h in headers))
    items.append(
        Measurement(whole, TRABECULAR_BMD, 118.9, MG_CM3, 8.0, (120.0, None), derivation=MEAN)
    )
    items.append(
        Classification(
            whole,
            Code("bone-dens-class", "99DCMNODE", "Bone density class"),
            (
                Label(Code("64859006", "SCT", "Osteoporosis"), "osteoporosis range"),
                Label(Code("312894000", "SCT", "Osteopenia"), "low bone mass range"),
                Label(Code("17621005", "SCT", "Normal"), "normal range"),
            ),
            (0.0, 1.0, 0.0),
            1,
            rule="below 80 mg/cm3 osteoporosis, 80 to 120 low bone mass",
        )
    )
    algorithm = replace(
        ALGORITHM, name="lumbar_bmd_ct", title="Lumbar BMD from unenhanced CT", version="0.2.0"
    )
    return findings(
        headers,
        items,
        algorithm=algorithm,
        procedure=CT_ABDOMEN,
        statement="L1-L4: mean trabecular BMD 118.9 mg/cm3 (± 8), low bone mass range.",
    )
