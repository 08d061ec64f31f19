"""The whole node on PostgreSQL, while the server goes away and comes back."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

from dicom_node.demo.phantom_studies import radiograph_study, write_study
from pipelines.phantoms.knee import knee_radiograph
from tests.peers.node import Node, running_node, running_pacs, stored
from tests.peers.ports import wait_for
from tests.peers.postgres import running_postgres

FILMS = 6


def films(folder: Path) -> dict[str, Path]:
    """A few studies of one knee film each: file by Study Instance UID."""
    found = {}
    for number in range(FILMS):
        phantom = knee_radiograph(number, number % 5, "R", spacing_mm=0.5)
        (film,) = study = radiograph_study(
            phantom.image,
            phantom.spacing_mm,
            key=f"PG-{number}",
            body_part="KNEE",
            description="Knee AP",
            laterality="R",
        )
        write_study(study, folder)
        found[str(film.StudyInstanceUID)] = folder / f"{film.SOPInstanceUID}.dcm"
    return found


def begun(node: Node) -> int:
    return sum(len(line.jobs) for line in node.studies().values())


def test_a_server_that_goes_away_and_comes_back_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    """Once in the middle of the jobs in an orderly way, once by a crash before they begin."""
    sent = films(tmp_path / "films")
    first, second = list(sent.values())[: FILMS // 2], list(sent.values())[FILMS // 2 :]
    with (
        running_postgres() as server,
        running_pacs(tmp_path / "pacs") as pacs,
        running_node(tmp_path / "node", pacs.dicom_port, database_url=server.url()) as node,
    ):
        assert node.database.is_postgres
        assert node.send(first).returncode == 0
        wait_for("the first job", lambda: begun(node), 120)
        server.restart()
        # an image is acknowledged when it is on disk, whether there is a database or not
        server.stop(signal.SIGQUIT)
        assert node.send(second).returncode == 0
        server.start()

        lines = node.wait_for_studies(sent, deadline=300)

        objects = Counter((item.study_uid, item.modality) for item in stored(pacs))
        for study in sent:
            (job,) = lines[study].jobs
            assert (lines[study].instances, job.state) == (1, "done"), job.error
            assert (objects[study, "SR"], objects[study, "OT"]) == (1, 1)
        assert len({item.sop_instance_uid for item in stored(pacs)}) == sum(objects.values())
        assert set(objects.values()) == {1}
        shown = node.cli("status").stdout
        assert next(iter(sent)) in shown or "done" in shown
        check = node.cli("check").stdout
        assert "PostgreSQL" in check
