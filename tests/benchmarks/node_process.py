"""The node's way in for the benchmark: receivers on one port, and the index behind them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from pathlib import Path

from dicom_node.clock import SystemClock
from dicom_node.config.schema import ReceiveSection
from dicom_node.logs import set_up_logging
from dicom_node.receive import Receiver, ReceiverSettings
from dicom_node.receive.server import leave_values_alone
from dicom_node.serve.signals import by_thread
from dicom_node.store.spool import Spool


def _until_terminated() -> threading.Event:
    stop = threading.Event()
    ask = by_thread(stop.set)
    signal.signal(signal.SIGTERM, lambda *_: ask())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return stop


def receive(port: int, folder: Path) -> None:
    """Receive until SIGTERM."""
    stop = _until_terminated()
    set_up_logging("receiver", json=True)
    leave_values_alone()
    settings = ReceiverSettings(
        ae_titles=("BENCH",),
        promiscuous=True,
        port=port,
        reuse_port=True,
        stop_timeout=1,
        reserve=ReceiveSection().reserve_mb * 1024 * 1024,
    )
    receiver = Receiver(settings, Spool(folder / "spool"), lambda _: None, SystemClock())
    receiver.start()
    stop.wait()
    receiver.stop()


def index(folder: Path) -> None:
    """Index what waits, until SIGTERM."""
    from dicom_node.store.database import Database
    from dicom_node.studies.indexing import Indexer

    os.nice(5)  # as the coordinator does under the supervisor
    stop = _until_terminated()
    set_up_logging("index", json=True)
    database = Database(f"sqlite:///{folder / 'node.sqlite3'}")
    database.migrate()
    indexer = Indexer(database, Spool(folder / "spool"), SystemClock())
    while not stop.wait(0.25):
        indexer.index_when_quiet()
    indexer.index_waiting()


def main() -> None:
    port, folder, receivers, indexed = int(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])
    stop = _until_terminated()
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=receive, args=(port, folder)) for _ in range(receivers)]
    if indexed:
        children.append(context.Process(target=index, args=(folder,)))
    for child in children:
        child.start()
    stop.wait()
    for child in children:
        os.kill(child.pid or 0, signal.SIGTERM)
    for child in children:
        child.join()


if __name__ == "__main__":
    main()
