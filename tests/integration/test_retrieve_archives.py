"""C-FIND, C-MOVE and C-GET against Orthanc and dcmqrscp."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid

from dicom_node.config import NodeConfig
from dicom_node.demo.ports import free_port
from dicom_node.errors import RetrieveError, UnreachableError
from dicom_node.model.peers import Peer, WebPeer
from dicom_node.retrieve import (
    Archive,
    Finder,
    Line,
    MoveArchive,
    StudyQuery,
    studies_of_day,
)
from dicom_node.serve.archives import archive_of
from dicom_node.store.spool import Spool
from tests.factories import ct_slice, radiograph
from tests.peers.archives import ARCHIVES, RunningArchive, receiving, taken
from tests.peers.calling import US
from tests.unit.serve.small_node import config_in

DAY = date(2026, 1, 2)
_FOUND = [("orthanc", "move"), ("orthanc", "web"), ("dcmqrscp", "move")]
_PULLED = [*_FOUND, ("orthanc", "get"), ("dcmqrscp", "get")]
FOUND_BY = pytest.mark.parametrize(("setting", "way"), _FOUND, indirect=["setting"])
PULLED_BY = pytest.mark.parametrize(("setting", "way"), _PULLED, indirect=["setting"])
BOTH = pytest.mark.parametrize("setting", ["orthanc", "dcmqrscp"], indirect=True)


@dataclass
class Setting:
    """An archive with three studies, and our receiver."""

    archive: RunningArchive
    config: NodeConfig
    spool: Spool
    knees: list[FileDataset]
    both: list[FileDataset]

    @property
    def line(self) -> Line:
        return Line("pacs", self.archive.peer, US)

    def by(self, way: str) -> Archive:
        """The archive asked and pulled from in one of the three ways."""
        peer = (
            WebPeer(url=self.archive.url)
            if way == "web"
            else self.archive.peer.model_copy(update={"retrieve": way})
        )
        config = self.config.model_copy(update={"peers": {"archive": peer}})
        return archive_of(config, "archive", self.spool)


@pytest.fixture(scope="module")
def setting(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Setting]:
    folder = tmp_path_factory.mktemp(request.param)
    port = free_port()
    config = config_in(
        folder,
        node={
            "ae_title": "AINODE",
            "host": "127.0.0.1",
            "port": port,
            "data_dir": "data",
            "min_free_mb": 1,
        },
        accept_from="anyone",
    )
    study = generate_uid()
    knees = [radiograph(study=study), radiograph(study=study, ViewPosition="LATERAL")]
    mixed, series = generate_uid(), generate_uid()
    slices = radiograph().pixel_array
    both = [
        radiograph(study=mixed),
        *(ct_slice(slices, z, study=mixed, series=series, number=int(z)) for z in (1.0, 2.0, 3.0)),
    ]
    elsewhen = [radiograph(StudyDate="20260103")]
    with ARCHIVES[request.param](folder / "archive", port) as archive, receiving(config) as spool:
        archive.put(folder / "sent", [*knees, *both, *elsewhen])
        yield Setting(archive, config, spool, knees, both)


@FOUND_BY
def test_studies_of_a_day_and_modality_are_found(setting: Setting, way: str) -> None:
    finder = setting.by(way)
    try:
        x_rays = studies_of_day(finder.studies, DAY, "DX")
        cts = studies_of_day(finder.studies, DAY, "CT")
        later = studies_of_day(finder.studies, date(2026, 1, 4), "DX")
        in_the_evening = finder.studies(StudyQuery(DAY, "DX", begin="180000"))
        at_night = finder.studies(StudyQuery(DAY, "DX", end="120000"))
    finally:
        finder.close()
    knee, mixed = setting.knees[0].StudyInstanceUID, setting.both[0].StudyInstanceUID
    # dcmqrscp ignores Modalities in Study, so the series are looked at, too
    assert {item.study_instance_uid for item in x_rays.studies} == {knee, mixed}
    assert mixed in {item.study_instance_uid for item in cts.studies}
    assert not later.studies
    assert not in_the_evening.studies
    assert {item.study_instance_uid for item in at_night.studies} == {knee, mixed}
    if setting.archive.counts:
        assert {item.instances for item in x_rays.studies} == {2, 4}


@FOUND_BY
def test_series_say_modality_and_number(setting: Setting, way: str) -> None:
    finder = setting.by(way)
    study = str(setting.both[0].StudyInstanceUID)
    series = finder.series(study)
    assert sorted(item.modality for item in series) == ["CT", "DX"]
    (scan,) = (item for item in series if item.modality == "CT")
    assert finder.instances(study, scan.series_instance_uid) == {
        str(image.SOPInstanceUID) for image in setting.both[1:]
    }
    found = finder.study(study)
    assert found is not None
    if setting.archive.counts:
        assert found.instances == 4
        assert scan.instances == 3
    assert finder.study("1.2.3.4") is None
    finder.close()


@PULLED_BY
def test_series_are_pulled_as_they_are(setting: Setting, way: str) -> None:
    archive = setting.by(way)
    study = str(setting.both[0].StudyInstanceUID)
    wanted = [item for item in archive.series(study) if item.modality == "CT"]
    for file in setting.spool.waiting():
        file.unlink()
    pulled = archive.pull(study, wanted)
    archive.close()
    assert pulled.ok
    assert (pulled.completed, pulled.failed) == (3, 0)
    came = taken(setting.spool)
    assert set(came) == {str(image.SOPInstanceUID) for image in setting.both[1:]}
    for image in setting.both[1:]:
        mine = came[str(image.SOPInstanceUID)]
        assert mine.PixelData == image.PixelData
        assert mine.file_meta.TransferSyntaxUID == image.file_meta.TransferSyntaxUID
        sender = "archive" if way == "web" else setting.archive.peer.ae_title
        assert mine.file_meta.SourceApplicationEntityTitle == sender


@BOTH
def test_a_peer_that_does_not_know_where_to_send_says_so(setting: Setting) -> None:
    archive = MoveArchive(setting.line, "ELSEWHERE")
    study = str(setting.knees[0].StudyInstanceUID)
    series = archive.series(study)
    if setting.archive.kind == "orthanc":  # answers 0xC000, not 0xA801
        pulled = archive.pull(study, series)
        assert not pulled.ok
        assert "does it know ELSEWHERE" in pulled.text
    else:
        with pytest.raises(RetrieveError, match="add our AE title"):
            archive.pull(study, series)
    archive.close()


def test_a_peer_that_is_down_is_unreachable() -> None:
    nobody = Peer(ae_title="PACS", host="127.0.0.1", port=free_port())
    finder = Finder(Line("pacs", nobody, US))
    with pytest.raises(UnreachableError, match="no association"):
        finder.studies(StudyQuery(DAY, "DX"))
