"""node.yaml is changed with its comments, its mode and its history kept, or not at all."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from dicom_node.config import load_config
from dicom_node.errors import ConfigError
from dicom_node.serve.configuring import Configuring
from dicom_node.store import configurations
from dicom_node.store.database import Database
from dicom_node.store.spool import Spool
from dicom_node.studies.indexing import Indexer
from tests.factories import ManualClock, radiograph
from tests.unit.serve.small_node import put_into_inbox

TEXT = """\
# our node
node: {ae_title: AINODE, host: 127.0.0.1, data_dir: data, min_free_mb: 1}
peers:
  pacs: {ae_title: PACS, host: 127.0.0.1, port: 104}
accept_from: [pacs]
routes:
  - name: knees   # by the wards
    when: {modality: DX, body_part: knee}
    run: knee_kl_ensemble
    send_to: pacs
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "node.yaml"
    file.write_text(TEXT)
    file.chmod(0o640)
    return file


@pytest.fixture
def configuring(file: Path, database: Database, clock: ManualClock) -> Configuring:
    return Configuring(file, load_config(file), database, clock)


def test_a_change_is_written_whole_with_comments_and_mode(
    configuring: Configuring, file: Path
) -> None:
    text = TEXT.replace("body_part: knee", "body_part: hip")
    proposal = configuring.propose(text)
    assert proposal.problems == ()
    assert "-    when: {modality: DX, body_part: knee}" in proposal.diff
    done = configuring.apply(text, base=proposal.base, by="ann", why="hips only")
    assert file.read_text() == text
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert not done.reloaded.running
    assert [item.name for item in file.parent.iterdir() if item.name.startswith(".")] == []


def test_mistakes_have_lines_and_are_not_written(configuring: Configuring, file: Path) -> None:
    text = TEXT.replace("send_to: pacs", "send_to: pac")
    (problem,) = configuring.propose(text).problems
    assert problem.line == 10
    assert "did you mean `pacs`?" in problem.fix
    with pytest.raises(ConfigError):
        configuring.apply(text, base=configuring.current()[1], by="ann", why="x")
    assert file.read_text() == TEXT


def test_a_file_changed_meanwhile_is_left_alone(configuring: Configuring, file: Path) -> None:
    _, base = configuring.current()
    file.write_text(TEXT + "# by hand\n")
    with pytest.raises(ConfigError, match="changed meanwhile"):
        configuring.apply(TEXT + "# ours\n", base=base, by="ann", why="x")
    assert file.read_text() == TEXT + "# by hand\n"


def test_a_change_without_a_reason_is_refused(configuring: Configuring, file: Path) -> None:
    with pytest.raises(ConfigError, match="no reason"):
        configuring.apply(TEXT + "#\n", base=configuring.current()[1], by="ann", why=" ")


def test_the_history_knows_hand_made_texts_and_rolls_back_to_them(
    configuring: Configuring, file: Path, database: Database
) -> None:
    changed = TEXT.replace("knees", "joints")
    configuring.apply(changed, base=configuring.current()[1], by="ann", why="better word")
    with database.read() as session:
        newest, first = configurations.history(session)
    assert (newest.by, newest.why) == ("ann", "better word")
    assert (first.by, first.why) == ("by hand", "found in the file")
    configuring.roll_back(first.id, base=configuring.current()[1], by="bob", why="worse word")
    assert file.read_text() == TEXT
    with pytest.raises(ConfigError, match="none of that number"):
        configuring.roll_back(99, base=configuring.current()[1], by="bob", why="x")


def test_a_dry_run_names_the_studies_that_would_have_changed(
    configuring: Configuring, database: Database, spool: Spool, clock: ManualClock
) -> None:
    knee, hand = radiograph(BodyPartExamined="KNEE"), radiograph(BodyPartExamined="HAND")
    for image in (knee, hand):
        put_into_inbox(spool, image)
    Indexer(database, spool, clock).index_waiting()
    with database.write() as session:
        from dicom_node.store.tables import Study

        session.query(Study).update({"routed_revision": 1})
    text = TEXT.replace("body_part: knee", "body_part: hand")
    found = configuring.dry_run(text, 500)
    assert found.studies == 2
    by_uid = {item.study_uid: item for item in found.changed}
    assert by_uid[hand.StudyInstanceUID].now == ("nothing runs",)
    assert "knee_kl_ensemble" in by_uid[hand.StudyInstanceUID].then[0]
    assert by_uid[knee.StudyInstanceUID].then == ("nothing runs",)
    assert configuring.dry_run(TEXT, 500).changed == []
    assert configuring.dry_run(text, 1).studies == 1


def test_what_needs_a_restart_is_said(configuring: Configuring) -> None:
    text = TEXT.replace("min_free_mb: 1", "min_free_mb: 1, port: 4242") + "web: {}\n"
    proposal = configuring.propose(text)
    assert set(proposal.needs_restart) == {"node.port", "web"}
