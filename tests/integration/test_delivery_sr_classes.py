"""A peer that does not accept the first SOP class of the SR gets the report in another, once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.delivery import PeerSender, RetryStrategy
from dicom_node.delivery.scu import CStore
from dicom_node.demo.phantom_studies import write_study
from dicom_node.demo.ports import free_port
from dicom_node.demo.studies import knee
from dicom_node.model.commitment import CommitmentReport, Reference
from dicom_node.model.documents import DocumentClass
from dicom_node.model.peers import Peer
from dicom_node.model.states import JobState, StudyState
from dicom_node.results.report import build_report
from dicom_node.store import asked_commitments, index, jobs
from dicom_node.store.database import Database
from dicom_node.store.jobs import JobResult, NewJob, NewReport
from dicom_node.store.tables import AskedCommitment, Delivery, Study
from tests.factories import ManualClock, facts
from tests.peers.calling import US
from tests.peers.dcmtk import running_storescp
from tests.peers.node import running_node
from tests.unit.results import samples

RETRY = RetryStrategy(timedelta(seconds=5), timedelta(seconds=60), timedelta(hours=1))
NAMES = {
    DocumentClass.COMPREHENSIVE: "ComprehensiveSRStorage",
    DocumentClass.ENHANCED: "EnhancedSRStorage",
    DocumentClass.BASIC_TEXT: "BasicTextSRStorage",
}


def accepting(folder: Path, *classes: DocumentClass) -> tuple[str, ...]:
    """Options of storescp that let it accept these SR classes, and the pictures."""
    names = [NAMES[kind] for kind in classes]
    names += ["SecondaryCaptureImageStorage", "GrayscaleSoftcopyPresentationStateStorage"]
    contexts = [f"PresentationContext{n} = {name}\\Plain" for n, name in enumerate(names, 1)]
    file = folder / "storescp.cfg"
    lines = [
        *("[[TransferSyntaxes]]", "[Plain]"),
        *("TransferSyntax1 = LittleEndianExplicit", "TransferSyntax2 = LittleEndianImplicit"),
        *("[[PresentationContexts]]", "[Accepted]", *contexts),
        *("[[Profiles]]", "[Default]", "PresentationContexts = Accepted"),
    ]
    file.write_text("\n".join(lines) + "\n")
    return ("-xf", str(file), "Default")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def database(database: Database, tmp_path: Path, clock: ManualClock) -> Database:
    """A finished job whose report waits for the PACS."""
    header = samples.knee_header(study="1.2.3")
    report = build_report(samples.not_evaluated(header), [header], {}, samples.SPEC)
    rows = []
    for item in report.objects:
        forms: list[NewReport] = []
        for form in (*item.alternatives, item):
            path = tmp_path / f"{form.sop_instance_uid}.dcm"
            path.write_bytes(form.encoded)
            uids = (form.sop_class_uid, form.sop_instance_uid)
            series = str(form.dataset.SeriesInstanceUID)
            forms.append(NewReport(form.kind, *uids, path.name, "h", series, tuple(forms)))
        rows.append(forms[-1])
    now = clock.now()
    with database.write() as session:
        index.add_instance(session, index.Arrival(facts(), "x", "a", now), now)
        study = session.get_one(Study, 1)
        study.state = StudyState.SETTLED
        jobs.enqueue(session, study, NewJob("kl", "1", "w", ["1.2.3.1.1"], ["pacs"], "r"), now)
        assert jobs.claim(session, "w0", now, timedelta(seconds=9)) is not None
        jobs.finish(session, 1, "w0", JobResult(JobState.DONE, rows, []), now)
    return database


def send(folder: Path, database: Database, clock: ManualClock, peer: Peer) -> Delivery:
    """Send what is due; returns the delivery of the SR."""
    sender = PeerSender(
        "pacs",
        CStore(US, peer),
        database=database,
        reports_dir=folder,
        retry=RETRY,
        clock=clock,
        sr_classes=peer.sr_classes,
    )
    assert sender.send_due() == 2
    with database.read() as session:
        rows = [row for row in session.query(Delivery) if row.report.kind == "SR"]
        (row,) = rows
        return row


@pytest.mark.parametrize("only", list(DocumentClass))
def test_a_peer_gets_the_first_class_that_it_accepts_and_only_that(
    tmp_path: Path, database: Database, clock: ManualClock, only: DocumentClass
) -> None:
    port = free_port()
    with running_storescp(tmp_path / "pacs", port, *accepting(tmp_path, only)) as folder:
        delivery = send(
            tmp_path, database, clock, Peer(ae_title="PACS", host="127.0.0.1", port=port)
        )
        came = [dcmread(file) for file in folder.iterdir()]
    assert sorted(item.Modality for item in came) == ["OT", "SR"]
    (sr,) = (item for item in came if item.Modality == "SR")
    assert sr.SOPClassUID == only.uid
    assert delivery.state == "sent"
    told = "" if only is DocumentClass.COMPREHENSIVE else f", as {sr.SOPClassUID.name}"
    assert delivery.answer == f"status 0x0000 (Success){told}"
    assert commits(database, clock, delivery, Reference(only.uid, sr.SOPInstanceUID)) == "committed"


def commits(
    database: Database, clock: ManualClock, delivery: Delivery, reference: Reference
) -> str:
    """Let the peer commit to what it was sent; returns the delivery's state."""
    now = clock.now()
    request = AskedCommitment(
        transaction_uid="2.25.5",
        peer="pacs",
        ae_title="PACS",
        references=[list(reference)],
        requested_at=now,
    )
    report = CommitmentReport("2.25.5", frozenset({reference}), {})
    with database.write() as session:
        row = session.get_one(Delivery, delivery.id)
        assert asked_commitments.reference_of(row) == reference
        asked_commitments.begin(session, [delivery.id], request, now)
        asked_commitments.told(session, "PACS", report, now, timedelta(seconds=5))
        return row.state


def test_a_peer_s_own_order_of_classes_is_kept(
    tmp_path: Path, database: Database, clock: ManualClock
) -> None:
    port = free_port()
    wanted = [DocumentClass.BASIC_TEXT, DocumentClass.COMPREHENSIVE]
    peer = Peer(ae_title="PACS", host="127.0.0.1", port=port, sr_classes=wanted)
    with running_storescp(tmp_path / "pacs", port, *accepting(tmp_path, *DocumentClass)) as folder:
        send(tmp_path, database, clock, peer)
        (sr,) = (d for file in folder.iterdir() if (d := dcmread(file)).Modality == "SR")
    assert sr.SOPClassUID == DocumentClass.BASIC_TEXT.uid


def test_a_peer_that_accepts_none_of_them_gets_none_and_it_is_said(
    tmp_path: Path, database: Database, clock: ManualClock
) -> None:
    port = free_port()
    wanted = [DocumentClass.COMPREHENSIVE, DocumentClass.ENHANCED]
    peer = Peer(ae_title="PACS", host="127.0.0.1", port=port, sr_classes=wanted)
    options = accepting(tmp_path, DocumentClass.BASIC_TEXT)
    with running_storescp(tmp_path / "pacs", port, *options) as folder:
        delivery = send(tmp_path, database, clock, peer)
        assert [dcmread(file).Modality for file in folder.iterdir()] == ["OT"]
    assert delivery.state == "pending"
    uids = " nor ".join(kind.uid for kind in wanted)
    assert delivery.answer == f"the peer does not accept the SOP class {uids}"


def test_the_node_sends_what_its_configuration_says(tmp_path: Path) -> None:
    port = free_port()
    study = knee()
    (tmp_path / "study").mkdir()
    write_study(study.instances, tmp_path / "study")
    uid = str(study.instances[0].StudyInstanceUID)
    options = accepting(tmp_path, *DocumentClass)
    peers = {
        "pacs": {
            "ae_title": "PACS",
            "host": "127.0.0.1",
            "port": port,
            "sr_classes": ["enhanced", "basic_text"],
        },
        "xray": {"ae_title": "STORESCU", "host": "127.0.0.1", "port": 104},
    }
    with (
        running_storescp(tmp_path / "pacs", port, *options) as folder,
        running_node(tmp_path / "node", port, peers=peers) as node,
    ):
        assert node.send((tmp_path / "study").iterdir()).returncode == 0
        node.wait_for_studies([uid])
        came = [dcmread(file) for file in folder.iterdir()]
    assert [sr.SOPClassUID for sr in came if sr.Modality == "SR"] == [DocumentClass.ENHANCED.uid]
