"""What the validators are shown: pipelines x outcomes x source images.

Outcomes: findings; "not evaluated"; findings in a report that replaces an earlier one.

Source images: every character set of `CHARACTER_SETS` and every transfer syntax of
`TRANSFER_SYNTAXES`, the ones of the real images in the tests' data. The objects of a result are
written in Explicit VR Little Endian whatever the source; what is left of the source's syntax in
them is whether the image was once compressed with loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import yaml
from pydicom import Dataset

from dicom_node.model.documents import DocumentClass
from dicom_node.model.findings import Classification, Finding, Findings, Label, NotEvaluated
from dicom_node.model.own_codes import TOO_FEW_SLICES, WRONG_VIEW
from dicom_node.model.pipeline import ClassificationOutput, PipelineSpec, ResultObject
from dicom_node.model.predecessor import Predecessor
from dicom_node.results.report import Report, build_report
from tests.unit.results import samples

CHARACTER_SETS: Final = {
    "default": ([], "Mueller^Jan"),
    "latin-1": (["ISO_IR 100"], "Müller^Jörg"),
    "utf-8": (["ISO_IR 192"], "Wang^XiaoDong=王^小東"),
    "japanese": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "korean": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    "chinese": (["GB18030"], "Wang^XiaoDong=王^小东"),
    "cyrillic": (["ISO_IR 144"], "Люкceмбypг"),
    "arabic": (["ISO_IR 127"], "قباني^لنزار"),
    "greek": (["ISO_IR 126"], "Διονυσιος"),
}

TRANSFER_SYNTAXES: Final = tuple(
    f"1.2.840.10008.1.2{tail}"
    for tail in (
        *("", ".1", ".1.99", ".2", ".5"),
        *(".4.50", ".4.51", ".4.53", ".4.55", ".4.57", ".4.70", ".4.80", ".4.81", ".4.90", ".4.91"),
    )
)

EARLIER: Final = Predecessor(
    documents=tuple((kind.uid, f"2.25.{n}") for n, kind in enumerate(DocumentClass, start=1)),
    series_instance_uid="2.25.9",
    version="0.0.9",
    more_images=1,
)

_PIPELINES: Final = Path(__file__).parents[2] / "pipelines"


@dataclass(frozen=True)
class Case:
    """One report to make.

    Attributes:
        charset: Of the source, a key of `CHARACTER_SETS`.
        syntax: Transfer syntax UID of the source.
    """

    pipeline: str
    outcome: str
    source: str
    charset: str
    syntax: str

    @property
    def name(self) -> str:
        return "-".join((self.pipeline, self.outcome, self.source, self.charset, self.syntax[18:]))

    def header(self) -> Dataset:
        """The first source image's header."""
        return self._sources()[0]

    def report(self) -> Report:
        return self.findings_and_report()[1]

    def findings_and_report(self) -> tuple[Findings, Report]:
        headers = self._sources()
        findings = _OUTCOMES[self.pipeline, self.outcome](headers)
        spec = spec_of(self.pipeline).model_copy(update={"objects": list(ResultObject)})
        earlier = EARLIER if self.outcome == "replaced" else None
        report = build_report(findings, headers, pictures(headers), spec, replaces=earlier)
        return findings, report

    def _sources(self) -> list[Dataset]:
        headers = _SOURCES[self.source]()
        for header in headers:
            values, name = CHARACTER_SETS[self.charset]
            if values:
                header.SpecificCharacterSet = values
            header.PatientName = name
            header.file_meta.TransferSyntaxUID = self.syntax
        return headers


def spec_of(pipeline: str) -> PipelineSpec:
    """The pipeline's own `dicom.yaml`."""
    text = (_PIPELINES / pipeline / "configs" / "dicom.yaml").read_text(encoding="utf-8")
    return PipelineSpec.model_validate(yaml.safe_load(text))


def pictures(headers: Sequence[Dataset]) -> dict[str, np.ndarray]:
    """Noise in the size of each image."""
    random = np.random.default_rng(1)
    return {
        str(h.SOPInstanceUID): random.integers(0, 255, (int(h.Rows), int(h.Columns)), np.uint8)
        for h in headers
    }


def _two_knees(headers: Sequence[Dataset]) -> Findings:
    right, left = samples.knees(headers[0], (64, 48))
    items = [
        samples.kl(right),
        samples.grad_cam(right, (64, 48)),
        samples.kl(left, 3),
        samples.grad_cam(left, (64, 48)),
    ]
    return samples.findings(headers[0], items)


def _bone_of_two_knees(pipeline: str) -> Callable[[Sequence[Dataset]], Findings]:
    """The last class of the pipeline for the right knee, the first for the left."""

    def made(headers: Sequence[Dataset]) -> Findings:
        (output,) = spec_of(pipeline).outputs
        assert isinstance(output, ClassificationOutput)
        labels = tuple(Label(label.code.code(), label.text) for label in output.labels)
        rest = 0.3 / (len(labels) - 1)
        items: list[Finding] = []
        for subject, index in zip(
            samples.knees(headers[0], (64, 48)), (len(labels) - 1, 0), strict=True
        ):
            probabilities = tuple(0.7 if n == index else rest for n in range(len(labels)))
            items += [
                Classification(
                    subject, output.question.code(), labels, probabilities, index, (index,), 0.9
                ),
                samples.grad_cam(subject, (64, 48)),
            ]
        return samples.findings(headers[0], items, statement="Right knee: osteoporosis.")

    return made


def _device(headers: Sequence[Dataset]) -> Findings:
    return samples.device(headers[0])


def _vertebrae(headers: Sequence[Dataset]) -> Findings:
    findings = samples.vertebrae(headers)
    subject = findings.items[0].subject
    saliency = replace(
        samples.grad_cam(samples.one_knee(headers[0]), (64, 64)),
        subject=subject,
        image=subject.images[1],
    )
    return replace(findings, items=(*findings.items, saliency))


def _declined_ct(headers: Sequence[Dataset]) -> Findings:
    subject = replace(samples.vertebrae(headers).items[0].subject, name="series")
    item = NotEvaluated(subject, TOO_FEW_SLICES, "too few slices")
    return samples.findings(headers, [item], procedure=samples.CT_ABDOMEN)


def _declined(headers: Sequence[Dataset]) -> Findings:
    item = NotEvaluated(samples.one_knee(headers[0]), WRONG_VIEW, "the image is not an AP view")
    return samples.findings(headers[0], [item])


_BONE: Final = ("knee_osteoporosis_resnet50", "knee_osteoporosis_superfluity")
"""Their reports are made as those of `knee_kl_ensemble` are: a few source images are enough."""

_OUTCOMES: Final[dict[tuple[str, str], Callable[[Sequence[Dataset]], Findings]]] = {
    ("knee_kl_ensemble", "found"): _two_knees,
    ("knee_kl_ensemble", "replaced"): _two_knees,
    ("knee_kl_ensemble", "declined"): _declined,
    **{(pipeline, "found"): _bone_of_two_knees(pipeline) for pipeline in _BONE},
    **{(pipeline, "declined"): _declined for pipeline in _BONE},
    ("hip_fixation_device", "found"): _device,
    ("hip_fixation_device", "replaced"): _device,
    ("hip_fixation_device", "declined"): _declined,
    ("lumbar_bmd_ct", "found"): _vertebrae,
    ("lumbar_bmd_ct", "replaced"): _vertebrae,
    ("lumbar_bmd_ct", "declined"): _declined_ct,
}

_SOURCES: Final[dict[str, Callable[[], list[Dataset]]]] = {
    "dx": lambda: [samples.knee_header()],
    "cr": lambda: [samples.cr_header()],
    "ct": samples.ct_series,
}

_SOURCE: Final = {
    (pipeline, outcome): "ct" if pipeline == "lumbar_bmd_ct" else source
    for pipeline, _ in _OUTCOMES
    for outcome, source in (("found", "dx"), ("replaced", "dx"), ("declined", "cr"))
}

_LITTLE: Final = "1.2.840.10008.1.2.1"


def cases() -> list[Case]:
    """Findings for every source image; the other outcomes for a few: they have no object more."""
    images = [(charset, _LITTLE) for charset in CHARACTER_SETS]
    images += [("latin-1", syntax) for syntax in TRANSFER_SYNTAXES]
    few = [("default", _LITTLE), ("japanese", _LITTLE), ("latin-1", TRANSFER_SYNTAXES[-1])]
    return [
        Case(pipeline, outcome, _SOURCE[pipeline, outcome], charset, syntax)
        for pipeline, outcome in _OUTCOMES
        for charset, syntax in dict.fromkeys(
            images if outcome == "found" and pipeline not in _BONE else few
        )
    ]
