"""Whose, when and which: what every object of one report shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import cached_property
from typing import Any, Final

from highdicom import ContributingEquipment
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.valuerep import DA, DT, TM

from dicom_node import __version__
from dicom_node.model.findings import Algorithm, Findings
from dicom_node.model.identifiers import derived_uid
from dicom_node.model.own_output import OWN_MANUFACTURER, OWN_MODEL_NAME
from dicom_node.model.predecessor import Predecessor
from dicom_node.results.charset import charsets_of, fit_texts
from dicom_node.results.headers import Sources, copy_patient_and_study, local_time

RESEARCH_ONLY: Final = "AI result - research use only - not for diagnosis"
DEMONSTRATION: Final = "Demonstration weights: trained to show the software, not to read images"


@dataclass(frozen=True)
class Origin:
    """One report's findings with the headers of the images that they are about.

    Attributes:
        title: What people call the pipeline; part of the series' descriptions.
        series_number: Series Number of the SR; the SC series has the next.
        zone: Zone of dates and times when the source states none; None: the machine's.
        replaces: The earlier report that this one replaces.
    """

    findings: Findings
    sources: Sources
    title: str
    series_number: int
    zone: tzinfo | None = None
    replaces: Predecessor | None = None

    @cached_property
    def started(self) -> datetime:
        """When the analysis began, in the zone of the object's dates; whole seconds."""
        local = local_time(self.findings.started, self.sources.first, self.zone)
        return local.replace(microsecond=0)

    def uid(self, kind: str, *index: str) -> str:
        """The UID of one thing of this report.

        The same study, inputs, model and replaced report give the same UID.
        """
        algorithm = self.findings.algorithm
        return derived_uid(
            self.sources.study_uid,
            self.sources.instance_uids(),
            algorithm.name,
            algorithm.version,
            algorithm.weights_sha256,
            algorithm.device_uid,
            kind,
            index,
            *([self.findings.edition] if self.findings.edition else []),
            *([] if self.replaces is None else ["replaces", self.replaces.sop_instance_uid]),
        )

    @property
    def series_description(self) -> str:
        """Series Description by the documented scheme, at most 64 characters (LO)."""
        tail = " (research only)"
        return f"AI {self.title}"[: 64 - len(tail)] + tail

    def equipment(self) -> dict[str, Any]:
        """General Equipment and dates, as keyword arguments of highdicom's constructors."""
        return {
            "manufacturer": OWN_MANUFACTURER,
            "manufacturer_model_name": OWN_MODEL_NAME,
            "software_versions": __version__,
            "series_description": self.series_description,
            "content_date": DA(self.started.date()),
            "content_time": TM(self.started.time()),
        }

    def finish(self, dataset: Dataset) -> None:
        """Give a new object its patient, study, dates and contributing equipment."""
        dataset.InstanceCreationDate = dataset.SeriesDate = DA(self.started.date())
        dataset.InstanceCreationTime = dataset.SeriesTime = TM(self.started.time())
        dataset.ContributingEquipmentSequence = [self._contribution()]
        fit_texts(dataset, charsets_of(self.sources.first))
        copy_patient_and_study(self.sources.first, dataset)

    def _contribution(self) -> Dataset:
        """The algorithm, by IHE AI Results section 6.5.3.1."""
        algorithm = self.findings.algorithm
        item = ContributingEquipment(
            algorithm.manufacturer,
            codes.DCM.ProcessingEquipment,
            manufacturer_model_name=algorithm.name,
            software_versions=algorithm.version,
            contribution_datetime=DT(self.started.strftime("%Y%m%d%H%M%S%z")),
            contribution_description="; ".join(restrictions(algorithm)),
        )
        item.DeviceUID = algorithm.device_uid
        return item


def restrictions(algorithm: Algorithm) -> Sequence[str]:
    """What every result must say of itself."""
    return [RESEARCH_ONLY, DEMONSTRATION] if algorithm.demonstration else [RESEARCH_ONLY]
