"""SIGKILL to the receiver, the worker and the whole node, at random moments of their work."""

from __future__ import annotations

import io
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.demo.orthanc import Orthanc
from dicom_node.demo.phantom_studies import radiograph_study, write_study
from dicom_node.model.instances import attributes_of
from dicom_node.model.own_output import is_own_output
from pipelines.phantoms.knee import knee_radiograph
from tests.peers.node import INFERENCE, Node, running_node, running_pacs, stored
from tests.peers.ports import wait_for

_STUDIES = 20
_KILLS = 10


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Twenty studies of one knee film each: file by Study Instance UID."""
    folder = tmp_path_factory.mktemp("films")
    found = {}
    for number in range(_STUDIES):
        phantom = knee_radiograph(number, number % 5, "RL"[number % 2], spacing_mm=0.5)
        (film,) = study = radiograph_study(
            phantom.image,
            phantom.spacing_mm,
            key=f"KILL-{number}",
            body_part="KNEE",
            description="Knee AP",
            laterality="RL"[number % 2],
        )
        write_study(study, folder)
        found[str(film.StudyInstanceUID)] = folder / f"{film.SOPInstanceUID}.dcm"
    return found


class Modality:
    """Sends every film until it is acknowledged, one association each, in a thread.

    Attributes:
        acknowledged: Files whose sender, DCMTK, was told success.
    """

    def __init__(self, node: Node, films: dict[str, Path], pause: float) -> None:
        self.acknowledged: list[Path] = []
        self._node = node
        self._number = len(films)
        self._waiting = list(films.values())
        self._pause = pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="modality")

    @contextmanager
    def sending(self) -> Iterator[Modality]:
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join()

    @property
    def done(self) -> bool:
        return len(self.acknowledged) == self._number

    def _run(self) -> None:
        while self._waiting and not self._stop.is_set():
            file = self._waiting.pop(0)
            if self._node.send([file]).returncode == 0:
                self.acknowledged.append(file)
                self._stop.wait(self._pause)
            else:
                self._waiting.append(file)
                self._stop.wait(0.2)


def _is_kept(node: Node, file: Path) -> bool:
    """Tell whether the node has an image's bytes on its disk, under whatever name."""
    wanted = dcmread(file, stop_before_pixels=True).SOPInstanceUID
    pixels = file.read_bytes()[-4096:]
    return any(
        wanted.encode() in data and pixels in data
        for path in node.config.spool_dir.rglob("*")
        if path.is_file() and (data := path.read_bytes())
    )


def _assert_nothing_was_lost_or_doubled(node: Node, pacs: Orthanc, films: dict[str, Path]) -> None:
    lines = node.wait_for_studies(films, deadline=300)
    objects = Counter((item.study_uid, item.modality) for item in stored(pacs))
    for study, file in films.items():
        line = lines[study]
        assert line.instances == 1
        (job,) = line.jobs
        assert job.state == "done", job.error
        assert objects[study, "SR"] == 1, study
        assert objects[study, "OT"] == 1, study
        assert _is_kept(node, file), study
    for item in stored(pacs):
        made = dcmread(io.BytesIO(pacs.file(item.orthanc_id)), stop_before_pixels=True)
        assert is_own_output(attributes_of(made))
    assert set(objects.values()) == {1}, "an object came twice"


def _kill_at_random_moments(
    node: Node,
    modality: Modality,
    kill: Callable[[], object],
    runs: Callable[[], object],
    longest_wait: float,
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"random moments of seed {seed}")
    moments = random.Random(seed)
    pause = threading.Event()
    for _ in range(_KILLS):
        wait_for("the victim's start", runs, 60)
        pause.wait(moments.uniform(0, longest_wait))
        kill()
        for file in tuple(modality.acknowledged):
            assert _is_kept(node, file), f"{file.name} was acknowledged and is gone"


@pytest.mark.parametrize("role", ["receiver", "worker"])
def test_a_role_killed_ten_times_loses_and_doubles_nothing(
    tmp_path: Path, films: dict[str, Path], role: str
) -> None:
    with (
        running_pacs(tmp_path / "pacs") as pacs,
        running_node(
            tmp_path / "node",
            pacs.dicom_port,
            inference={**INFERENCE, "attempts": 20},
        ) as node,
    ):
        killed: list[int] = []
        with Modality(node, films, pause=2).sending() as modality:
            _kill_at_random_moments(
                node,
                modality,
                kill=lambda: killed.append(node.kill_role(role)),
                runs=lambda: node.pid_of(role),
                longest_wait=8,
            )
            wait_for("every film's acknowledgement", lambda: modality.done, 400)
        assert len(set(killed)) == _KILLS
        _assert_nothing_was_lost_or_doubled(node, pacs, films)


def test_a_node_killed_ten_times_loses_and_doubles_nothing(
    tmp_path: Path, films: dict[str, Path]
) -> None:
    with (
        running_pacs(tmp_path / "pacs") as pacs,
        running_node(
            tmp_path / "node",
            pacs.dicom_port,
            inference={**INFERENCE, "attempts": 20},
        ) as node,
    ):

        def power_cut() -> None:
            node.kill_all()
            node.start()

        with Modality(node, films, pause=2).sending() as modality:
            _kill_at_random_moments(
                node, modality, kill=power_cut, runs=lambda: True, longest_wait=10
            )
            wait_for("every film's acknowledgement", lambda: modality.done, 400)
        _assert_nothing_was_lost_or_doubled(node, pacs, films)
