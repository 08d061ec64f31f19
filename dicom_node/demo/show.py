"""`make demo`: phantom studies go in, structured reports and heatmaps come back, as you watch."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml
from PIL import Image
from pydicom import dcmread
from rich.console import Console
from rich.markup import escape
from rich.progress import track

from dicom_node.config import load_config
from dicom_node.delivery import CStore, ScuSettings, Verdict, echo
from dicom_node.delivery.folder import files_in, send_files
from dicom_node.demo.live import has_ended, watch
from dicom_node.demo.pacs import Pacs, demo_pacs
from dicom_node.demo.phantom_studies import write_study
from dicom_node.demo.ports import free_port
from dicom_node.demo.routes import ROUTES
from dicom_node.demo.studies import DemoStudy, demo_studies
from dicom_node.errors import NodeError
from dicom_node.model.peers import Peer
from dicom_node.model.states import DeliveryState, JobState
from dicom_node.results.text import report_text
from dicom_node.serve.signals import by_thread
from dicom_node.store import overview
from dicom_node.store.database import Database

_MODALITY: Final = "XRAY"
_ENDING: Final = 60
"""Seconds; a node kills its own roles after half of it."""


def run_demo(
    output: Path,
    *,
    images: Path | None,
    keep: bool,
    console: Console,
    minutes: float = 15,
) -> int:
    """Run the demo.

    Returns:
        0 when every study ended as expected, else 1.
    """
    work = output / time.strftime("%Y%m%d-%H%M%S")
    work.mkdir(parents=True)
    if images is None:
        console.print("making four phantom studies: a knee, a hip, a CT, and one nobody wants …")
        wanted = demo_studies()
        for item in wanted:
            write_study(item.instances, work / "studies" / item.name)
        sources = work / "studies"
    else:
        wanted = []
        sources = images
        files_in(sources)  # says what is wrong with it before anything starts
    names = {item.study_uid: item.name for item in wanted}
    with demo_pacs(work / "pacs") as pacs:
        config_file, port = _write_config(work, pacs)
        with _node(work, config_file):
            console.print(f"the node listens on port {port}; the PACS is {pacs.name}")
            database = Database(load_config(config_file).database_url)
            sent = _send(sources, port, console)
            lines = watch(database, sent, names, console, minutes)
            console.print()
            ok = _judge(lines, wanted, console)
            _show_results(work, config_file, lines, console)
            story = f"the node's story of it: {_command()} status --config {config_file}"
            console.print(escape(story), soft_wrap=True)
            if keep:
                console.print(f"the PACS: {pacs.look}")
                console.print(
                    f"send your own: storescu -aec AINODE -aet {_MODALITY} 127.0.0.1 {port} FILE",
                    soft_wrap=True,
                )
                _wait_for_interrupt(console)
            else:
                console.print("`make demo KEEP=1` leaves the node and the PACS running")
            database.close()
    return 0 if ok else 1


def _write_config(work: Path, pacs: Pacs) -> tuple[Path, int]:
    port = free_port()
    config: Mapping[str, Any] = {
        "node": {
            "ae_title": "AINODE",
            "host": "127.0.0.1",
            "port": port,
            "data_dir": "data",
            "min_free_mb": 100,
        },
        "peers": {
            "pacs": {"ae_title": pacs.ae_title, "host": "127.0.0.1", "port": pacs.port},
            "xray": {"ae_title": _MODALITY, "host": "127.0.0.1", "port": free_port()},
        },
        "accept_from": ["pacs", "xray"],
        "settle": {"quiet_seconds": 3},
        "retry": {"first_seconds": 1},
        "routes": list(ROUTES),
    }
    file = work / "node.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    return file, port


@contextmanager
def _node(work: Path, config_file: Path) -> Iterator[None]:
    log = work / "node.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "dicom_node", "serve", "--config", str(config_file)],
            stdout=stream,
            stderr=stream,
        )
        try:
            _wait_for_port(load_config(config_file).node.port, process, log)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=_ENDING)
            except subprocess.TimeoutExpired:
                process.kill()
                why = f"it did not end within {_ENDING} s, and was killed"
                raise NodeError("node", why, f"read {log} for the reason") from None


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    me = ScuSettings(_MODALITY, connect_timeout=2, acse_timeout=5)
    peer = Peer(ae_title="AINODE", host="127.0.0.1", port=port)
    deadline = time.monotonic() + 120
    while echo(me, peer) is not None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise NodeError("node", "it did not start", f"read {log} for the reason")
        time.sleep(0.2)


def _send(sources: Path, port: int, console: Console) -> set[str]:
    """Send everything as a modality would; returns the Study Instance UIDs that were taken."""
    taken: set[str] = set()
    peer = Peer(ae_title="AINODE", host="127.0.0.1", port=port)
    refused = 0
    found = files_in(sources)
    for file in found.not_dicom:
        console.print(f"[yellow]no DICOM file, not sent[/] {escape(str(file))}")
    answers = send_files(CStore(ScuSettings(_MODALITY), peer), found.files)
    for file, answer in track(
        answers,
        "sending",
        total=len(found.files),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ):
        if answer.verdict is Verdict.SENT:
            taken.add(str(dcmread(file, specific_tags=["StudyInstanceUID"]).StudyInstanceUID))
        else:
            refused += 1
            console.print(f"[red]not taken[/] {escape(f'{file.name}: {answer.text}')}")
    console.print(f"{len(taken)} studies sent, {refused} images refused")
    return taken


def _judge(
    lines: Sequence[overview.StudyLine], wanted: Sequence[DemoStudy], console: Console
) -> bool:
    """Say of each study whether it ended as expected; True when all did."""
    by_uid = {line.study_uid: line for line in lines}
    ok = all(map(has_ended, lines))
    for study in wanted:
        line = by_uid.get(study.study_uid)
        why = _difference(study, line)
        ok &= why is None
        verdict = "[green]as expected[/]" if why is None else f"[red]{why}[/]"
        console.print(f"[bold]{study.name}[/]: {study.expected} - {verdict}")
    return ok


def _difference(study: DemoStudy, line: overview.StudyLine | None) -> str | None:
    if line is None:
        return "it is not in the index"
    ran = {job.pipeline: job for job in line.jobs}
    if set(ran) != set(study.pipelines):
        return f"ran {sorted(ran) or 'nothing'} instead of {sorted(study.pipelines) or 'nothing'}"
    for name, job in ran.items():
        if job.state != JobState.DONE:
            return f"{name} is {job.state}: {job.error or job.statement}"
        if study.statement_has not in (job.statement or ""):
            return f"{name} says: {job.statement}"
        if not job.deliveries or any(d.state != DeliveryState.SENT for d in job.deliveries):
            return f"{name}: its report is not in the PACS"
    return None


def _show_results(
    work: Path, config_file: Path, lines: Sequence[overview.StudyLine], console: Console
) -> None:
    """Write each report as text and picture beside the others, and say how to look at them."""
    folder = work / "results"
    folder.mkdir()
    reports = load_config(config_file).reports_dir
    for line in lines:
        for job in line.jobs:
            if job.statement:
                console.print(f"\n[bold]{job.pipeline}[/]: {job.statement}")
            for number, (kind, path) in enumerate(job.reports):
                dataset = dcmread(reports / path)
                name = f"{job.pipeline}-{line.study_uid[-12:].replace('.', '_')}-{number}"
                if kind == "SR":
                    text = folder / f"{name}.txt"
                    text.write_text(report_text(dataset), encoding="utf-8")
                    console.print(escape(f"  less {text}"), soft_wrap=True)
                elif kind == "SC":
                    picture = folder / f"{name}.png"
                    Image.fromarray(dataset.pixel_array).save(picture)
                    console.print(escape(f"  xdg-open {picture}"), soft_wrap=True)
    console.print(escape(f"\nresults: {folder}"), soft_wrap=True)


def _command() -> str:
    """Return how the person at this terminal calls us."""
    program = Path(sys.executable).with_name("dicom-node")
    here = Path.cwd()
    return str(program.relative_to(here) if program.is_relative_to(here) else program)


def _wait_for_interrupt(console: Console) -> None:
    stop = threading.Event()
    ask = by_thread(stop.set)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ask())
    # only now: who reads it may press at once
    console.print("the node and the PACS are left running; Ctrl-C ends them")
    stop.wait()
