"""A node gets marked patients, and everything goes wrong: no mark is in any of its outputs."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

import pytest

from dicom_node.demo.ports import free_port
from dicom_node.store import overview
from dicom_node.store.alerts import alerts_firing
from tests.integration.marked import MARK, Site, break_things, quoting_pacs, route
from tests.peers.listening import mail_server, syslog_stream, web_hook
from tests.peers.node import running_node
from tests.peers.ports import wait_for
from tests.unit.audit.schema import checked
from tests.unit.cli.command import dicom_node
from tests.unit.inference.tiny_bundles import parts, write_bundle

AUDITED = ("110100", "110103", "110104", "110113")
"""A role's start, a job's failure, images that came, a caller refused: DCM codes of EventID."""
_BIRTH = re.compile(r"19471231|1947-12-31")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("marked")
    write_bundle(folder / "own", "raising", inference=parts(locator="quoting_the_patient"))
    write_bundle(folder / "own", "fine", inference=parts(), series_number=9800)
    at_once = {"for_minutes": 0, "limit": 1}
    rules = ("study_held", "failure_rate", "refusals", "delivery_late", "files_aside")
    web_port = free_port()
    with (
        quoting_pacs() as pacs,
        mail_server() as mail,
        web_hook() as hook,
        syslog_stream() as siem,
        syslog_stream() as repository,
        running_node(
            folder / "node",
            pacs,
            routes=[route("raising", "shoulder"), route("fine", "knee")],
            pipelines_path=[str(folder / "own")],
            web={"port": web_port},
            alerts={
                "every_seconds": 1,
                "channels": {
                    "duty": {
                        "smtp": "127.0.0.1",
                        "port": mail.port,
                        "security": "none",
                        "sender": "node@hospital.example",
                        "to": ["duty@hospital.example"],
                    },
                    "chat": {"webhook": hook.url, "style": "plain"},
                    "siem": {"syslog": "127.0.0.1", "port": siem.port, "transport": "tcp"},
                },
                "rules": dict.fromkeys(rules, at_once),
            },
            audit={"syslog": "127.0.0.1", "port": repository.port, "transport": "tcp"},
        ) as node,
    ):
        site = Site(node, mail, hook, siem, repository, web_port, [])
        site.studies.extend(break_things(site, folder))
        yield site


def no_mark(where: str, text: str) -> None:
    found = [text[max(0, hit.start() - 80) : hit.end() + 40] for hit in re.finditer(MARK, text)]
    assert not found, f"{where}: {found[:3]}"
    assert not _BIRTH.search(text), f"{where}: the birth date"


def _audit_events(site: Site) -> set[str]:
    told = b"".join(site.repository.messages).decode()
    return set(re.findall(r'<EventID [^>]*csd-code="(\d+)"', told))


@pytest.fixture(scope="module")
def ended(site: Site) -> Site:
    """The same, when all that can go wrong has."""

    def has_ended() -> bool:
        lines = site.node.studies()
        jobs = [job for uid in site.studies if uid in lines for job in lines[uid].jobs]
        tried = [d for job in jobs for d in job.deliveries if d.attempts]
        return (
            sum(job.state == "failed" for job in jobs) == 3
            and bool(tried)
            and any(line.held for line in lines.values())
        )

    wait_for("the studies' end", has_ended, 180)

    def told() -> set[str]:
        with site.node.database.read() as session:
            return {line.rule for line in alerts_firing(session)}

    rules = {"study_held", "failure_rate", "refusals", "files_aside"}
    wait_for("the alerts", lambda: rules <= told(), 60)
    for name, taken in (("mail", site.mail.mails), ("webhook", site.hook.posts)):
        wait_for(f"{name} of each", lambda taken=taken: len(taken) >= len(rules), 60)
    wait_for("syslog of each", lambda: len(site.siem.messages) >= len(rules), 60)
    for event in AUDITED:
        wait_for(f"audit message {event}", lambda e=event: e in _audit_events(site), 60)
    return site


def test_the_marks_did_reach_the_node(ended: Site) -> None:
    """Else the others would prove nothing."""
    spool = ended.node.config.spool_dir
    assert any(MARK.encode() in file.read_bytes() for file in spool.rglob("*.dcm"))
    with ended.node.database.read() as session:
        assert overview.counts(session).jobs["failed"] == 3


def test_the_log_names_no_patient(ended: Site) -> None:
    text = ended.node.log.read_text()
    assert "job_failed" in text
    assert "report_failed" in text
    assert "status 0xA900" in text
    assert re.search(r"(…|\\u2026) is not ", text), "what the PACS said, without the patient"
    no_mark("log", text)


def test_alerts_name_no_patient(ended: Site) -> None:
    for to, mail in ended.mail.mails:
        assert to == ["duty@hospital.example"]
        no_mark("mail", mail.as_string() + str(mail.get_payload(decode=True)))
    for _, _, body in ended.hook.posts:
        no_mark("webhook", str(body))
    for line in ended.siem.messages:
        no_mark("syslog", line.decode())


def test_audit_messages_are_valid_and_name_no_patient(ended: Site) -> None:
    for line in ended.repository.messages:
        text = line.partition(b"\xef\xbb\xbf")[2].decode()
        no_mark("audit message", text)
        root = checked(text)
        for detail in root.iter("ParticipantObjectDetail"):
            no_mark("detail", base64.b64decode(detail.get("value")).decode())
    assert set(AUDITED) <= _audit_events(ended)


def test_metrics_and_health_name_no_patient(ended: Site) -> None:
    wait_for("the dashboard", lambda: ended.page("/healthz")[0] == 200, 60)
    status, metrics = ended.page("/metrics")
    assert status == 200
    assert 'dicom_node_jobs{pipeline="raising",state="failed"} 3.0' in metrics
    assert 'dicom_node_alerts_firing{rule="study_held",severity="warning"} 1.0' in metrics
    no_mark("/metrics", metrics)
    assert ended.page("/readyz") == (200, '{"status":"ready","wrong":{}}')


def test_pages_for_nobody_and_error_pages_name_no_patient(ended: Site) -> None:
    wait_for("the dashboard", lambda: ended.page("/healthz")[0] == 200, 60)
    for path in ("/", "/login", "/no-such-page", f"/studies/{ended.studies[0]}", "/api/v1/studies"):
        no_mark(path, ended.page(path)[1])
    # what somebody searches for is in the address, and must not get into the log
    ended.page(f"/studies?find={MARK}NAME")
    ended.page(f"/no-such-page/{MARK}ID77")
    no_mark("log", ended.node.log.read_text())


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("status", "--json"),
        ("status", "--wide", "STUDY"),
        ("status", "--json", "STUDY"),
        ("jobs",),
        ("jobs", "--json"),
        ("held",),
        ("held", "--json"),
        ("alerts", "list", "--all"),
        ("alerts", "list", "--all", "--json"),
        ("audit", "list", "--limit", "10000"),
        ("audit", "list", "--limit", "10000", "--json"),
        ("audit", "export"),
        ("audit", "export", "--form", "dicom"),
    ],
)
def test_what_the_command_line_tells_names_no_patient(
    ended: Site, command: tuple[str, ...]
) -> None:
    words = [ended.studies[0] if word == "STUDY" else word for word in command]
    done = dicom_node(*words, "--config", ended.node.config_file)
    assert done.status == 0, done.err
    assert done.out
    no_mark(" ".join(words), done.out + done.err)


def test_the_audit_trail_is_whole(ended: Site) -> None:
    def verified() -> bool:
        done = dicom_node("audit", "verify", "--config", ended.node.config_file)
        return done.status == 0 and ", 0 not sealed yet" in done.out

    wait_for("a trail that is whole and sealed", verified, 60)


def test_file_names_name_no_patient(ended: Site) -> None:
    folder = ended.node.config.node.data_dir
    no_mark("file names", "\n".join(str(file) for file in folder.rglob("*")))
