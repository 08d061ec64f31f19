"""How long the dashboard's pages take with few and with many studies in the database.

    python -m tests.benchmarks.dashboard [--studies 2000 200000] [--repeats 40]

The database is filled by bulk inserts, as if all had gone its usual way; each page is asked for
in the process, without a network, and its time is that of the node alone.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import yaml
from fastapi.testclient import TestClient
from sqlalchemy import insert

from dicom_node.clock import SystemClock
from dicom_node.config import load_config
from dicom_node.inference.bundles import find_bundles
from dicom_node.model.access import Role
from dicom_node.store import accounts, sessions
from dicom_node.store.database import Database
from dicom_node.store.tables import (
    AuditEvent,
    Delivery,
    FindingRow,
    Instance,
    Job,
    Report,
    Series,
    Study,
    StudyWord,
)
from dicom_node.store.words import headline, words_of
from dicom_node.web.app import create_app
from dicom_node.web.callers import COOKIE, CSRF_HEADER, csrf_of
from dicom_node.web.context import WebContext
from dicom_node.web.now import Lookout

_NOW: Final = datetime.now(UTC)
_EVERY: Final = timedelta(minutes=2)
_FAMILIES: Final = ("Miller", "Garcia", "Nguyen", "Schmidt", "Rossi", "Novak", "Kim", "Singh")
_GIVEN: Final = ("Anna", "Ben", "Carla", "David", "Eva", "Frank", "Grace", "Hugo")


def fill(database: Database, number: int) -> None:
    """Put studies in, two a job each, the newest now; one in a thousand failed, few are held."""
    tables: list[tuple[Any, Callable[[int], Iterator[dict[str, Any]]]]] = [
        (Study, _study),
        (StudyWord, _words),
        (Series, _series),
        (Instance, _instances),
        (Job, _job),
        (FindingRow, _finding),
        (Report, _reports),
        (Delivery, _deliveries),
        (AuditEvent, _events),
    ]
    for first in range(1, number + 1, 2000):
        numbers = range(first, min(first + 2000, number + 1))
        with database.write() as session:
            for table, rows_of in tables:
                rows = [row for n in numbers for row in rows_of(_of(n, number))]
                session.execute(insert(table), rows)


def _of(number: int, total: int) -> Any:
    return number, _NOW - (total - number) * _EVERY


def _attributes(number: int, at: datetime) -> dict[str, Any]:
    name = f"{_FAMILIES[number % 8]}{number // 64}^{_GIVEN[number // 8 % 8]}"
    return {
        "PatientName": name,
        "PatientID": f"P{number:07}",
        "AccessionNumber": f"ACC{number:08}",
        "StudyDate": at.strftime("%Y%m%d"),
        "Modality": "DX",
        "BodyPartExamined": "KNEE",
        "ViewPosition": "AP",
        "SeriesDescription": "Knee AP",
        "Rows": 2000,
        "Columns": 1600,
    }


def _uid(number: int, *parts: int) -> str:
    return ".".join(["1.2.826.0.1.3680043.9.7", str(number), *map(str, parts)])


def _study(of: Any) -> Iterator[dict[str, Any]]:
    number, at = of
    line = headline(_attributes(number, at))
    held = number % 20_000 == 500
    yield {
        "id": number,
        "study_instance_uid": _uid(number),
        "state": "settled",
        "first_instance_at": at,
        "last_instance_at": at + timedelta(seconds=20),
        "settled_at": at + timedelta(seconds=80),
        "revision": 1,
        "routed_revision": 1,
        "unrouted_reason": "no route wanted it" if number % 50 == 0 else None,
        "held_at": at if held else None,
        "held_reason": "quarantined" if held else None,
        "held_text": "its jobs took down 3 workers" if held else None,
        "lost_workers": 0,
        "sender": f"DX{number % 12:02}",
        "patient_id": line.patient_id,
        "patient_name": line.patient_name,
        "accession_number": line.accession_number,
        "study_date": line.study_date,
        "modality": line.modality,
    }


def _words(of: Any) -> Iterator[dict[str, Any]]:
    number, at = of
    for word, is_patient in words_of(headline(_attributes(number, at))):
        yield {"word": word, "study_id": number, "is_patient": is_patient}


def _series(of: Any) -> Iterator[dict[str, Any]]:
    number, _ = of
    yield {"id": number, "study_id": number, "series_instance_uid": _uid(number, 1)}


def _instances(of: Any) -> Iterator[dict[str, Any]]:
    number, at = of
    for image in (1, 2):
        yield {
            "study_id": number,
            "series_id": number,
            "sop_instance_uid": _uid(number, 1, image),
            "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1",
            "transfer_syntax_uid": "1.2.840.10008.1.2.1",
            "path": f"{number}/{image}.dcm",
            "sha256": "0" * 64,
            "sender": f"DX{number % 12:02}",
            "received_at": at,
            "attributes": _attributes(number, at),
        }


def _job(of: Any) -> Iterator[dict[str, Any]]:
    number, at = of
    failed = number % 1000 == 7
    yield {
        "id": number,
        "study_id": number,
        "pipeline": "knee_kl_ensemble",
        "version": "0.1.0",
        "input_key": str(number),
        "state": "failed" if failed else "not_evaluated" if number % 10 == 0 else "done",
        "inputs": [_uid(number, 1, 1)],
        "peers": ["pacs"],
        "reason": "route “knees”",
        "attempts": 1,
        "queued_at": at + timedelta(seconds=81),
        "started_at": at + timedelta(seconds=82),
        "finished_at": at + timedelta(seconds=90),
        "error": {"what": "knee", "why": "out of memory", "fix": "less"} if failed else None,
    }


def _finding(of: Any) -> Iterator[dict[str, Any]]:
    number, _ = of
    yield {"job_id": number, "kind": "statement", "data": {"text": "Right knee: KL grade 2."}}


def _reports(of: Any) -> Iterator[dict[str, Any]]:
    number, at = of
    for index, kind in enumerate(("SR", "SC")):
        yield {
            "id": 2 * number + index,
            "job_id": number,
            "kind": kind,
            "sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.34",
            "sop_instance_uid": _uid(number, 2, index),
            "path": f"{number}/{kind}.dcm",
            "sha256": "0" * 64,
            "created_at": at,
        }


def _deliveries(of: Any) -> Iterator[dict[str, Any]]:
    number, at = of
    for index in (0, 1):
        state = "failed" if number % 5000 == 9 else "sent"
        yield {
            "report_id": 2 * number + index,
            "peer": "pacs",
            "state": state,
            "attempts": 1,
            "queued_at": at,
            "next_attempt_at": at,
            "sent_at": at + timedelta(seconds=95) if state == "sent" else None,
            "answer": "0x0000",
            "asked": 0,
            "resent": 0,
        }


def _events(of: Any) -> Iterator[dict[str, Any]]:
    number, at = of
    kinds = ("study_begun", "instances_received", "study_settled", "job_queued", "study_routed")
    for index, kind in enumerate((*kinds, "job_finished", "report_sent", "report_sent")):
        yield {
            "at": at + timedelta(seconds=index),
            "kind": kind,
            "study_uid": _uid(number),
            "job_id": number,
            "peer": "pacs",
            "data": {"number": 2, "pipelines": ["knee_kl_ensemble"], "quiet_seconds": 60},
        }


def pages(number: int) -> dict[str, tuple[str, str, dict[str, str]]]:
    """Return what is asked for: method, path and form, by name."""
    middle = number // 2
    return {
        "studies": ("GET", "/studies", {}),
        "studies, page in the middle": ("GET", f"/studies?before={middle}", {}),
        "studies, failed": ("GET", "/studies?state=failed", {}),
        "studies, done": ("GET", "/studies?state=done", {}),
        "studies that need a person": ("GET", "/studies?state=attention", {}),
        "studies of a sender": ("GET", "/studies?sender=DX03", {}),
        "studies of a day": (
            "GET",
            f"/studies?since={_NOW - timedelta(days=1):%Y-%m-%d}&until={_NOW:%Y-%m-%d}",
            {},
        ),
        "search: patient id": ("POST", "/studies", {"text": f"P{middle:07}"}),
        "search: name of few": ("POST", "/studies", {"text": f"miller{middle // 64} anna"}),
        "search: name of many": ("POST", "/studies", {"text": "mil"}),
        "search: nobody": ("POST", "/studies", {"text": "nobody"}),
        "one study": ("GET", f"/studies/{_uid(middle)}", {}),
        "now": ("GET", "/", {}),
        "routes": ("GET", "/routes", {}),
        "peers": ("GET", "/peers", {}),
        "pipelines": ("GET", "/pipelines", {}),
    }


def measure(folder: Path, number: int, repeats: int) -> dict[str, list[float]]:
    """Fill a database and return each page's times in milliseconds."""
    file = folder / "node.yaml"
    pacs = {"ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    route = {
        "name": "knees",
        "when": {"modality": "DX", "body_part": "knee"},
        "run": ["knee_kl_ensemble"],
        "send_to": ["pacs"],
    }
    settings = {
        "node": {"ae_title": "AINODE", "data_dir": "data", "min_free_mb": 1},
        "peers": {"pacs": pacs},
        "accept_from": "anyone",
        "web": {},
        "routes": [route],
    }
    folder.mkdir()
    file.write_text(yaml.safe_dump(settings, sort_keys=False))
    bundles = find_bundles([])
    config = load_config(file, bundles)
    database = Database(config.database_url)
    database.migrate()
    begun = time.perf_counter()
    fill(database, number)
    size = (config.node.data_dir / "node.sqlite3").stat().st_size / 2**20
    print(f"{number} studies: {time.perf_counter() - begun:.0f} s to fill, {size:.0f} MiB")
    browser = _browser(WebContext(file, config, bundles, database, SystemClock()))
    found: dict[str, list[float]] = {}
    for name, (method, path, form) in pages(number).items():
        if method == "POST":
            # the search leads to a list, whose time counts
            path = browser.post(path, data=form).headers["location"]
        assert browser.get(path).status_code == 200, name
        found[name] = [_milliseconds(browser, path) for _ in range(repeats)]
    database.close()
    return found


def _browser(context: WebContext) -> TestClient:
    with context.database.write() as session:
        now = context.clock.now()
        hashed = accounts.hash_password("a long enough password")
        user = accounts.add(session, "anna", Role.ADMIN, hashed, now, by="benchmark")
        token = sessions.open_session(session, user.id, "testclient", now)
    browser = TestClient(create_app(context), "http://127.0.0.1:8080", follow_redirects=False)
    browser.cookies.set(COOKIE, token)
    browser.headers[CSRF_HEADER] = csrf_of(token)
    return browser


def _milliseconds(browser: TestClient, path: str) -> float:
    # the first page is looked up anew each time, as for the only one who looks
    browser.app.state.lookout = Lookout(browser.app.state.context)  # type: ignore[attr-defined]
    begun = time.perf_counter()
    assert browser.get(path).status_code == 200
    return (time.perf_counter() - begun) * 1000


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table for docs/performance.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, nargs="+", default=[2000, 200_000])
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--folder", type=Path, help="Where the databases go; default: a new one.")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        times = {
            number: measure(Path(folder) / str(number), number, given.repeats)
            for number in given.studies
        }
    few, many = min(times), max(times)
    print(f"| page | {few} studies | {many} studies | ratio of medians |")
    print("|---|---|---|---|")
    for name in times[few]:
        cells = [f"{_median(times[n][name]):.0f} ({_p95(times[n][name]):.0f})" for n in (few, many)]
        ratio = _median(times[many][name]) / _median(times[few][name])
        print(f"| {name} | {cells[0]} | {cells[1]} | {ratio:.1f} |")


def _median(times: list[float]) -> float:
    return statistics.median(times)


def _p95(times: list[float]) -> float:
    return sorted(times)[int(0.95 * (len(times) - 1))]


if __name__ == "__main__":
    main()
