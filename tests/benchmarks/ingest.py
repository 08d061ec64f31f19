"""How fast images are taken in: this node beside DCMTK, Orthanc and plain pynetdicom.

    python tests/benchmarks/ingest.py --rounds 5

Every server is started afresh for each load, in turns, so that what else the machine does hits
all of them; the sender is DCMTK's storescu with TCP_NODELAY=1. The node runs with all of its
fsyncs and with its index. "disk alone" writes and fsyncs the same files without any network, each
in one piece and waited for. Printed are medians over the rounds.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydicom.uid import generate_uid

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.factories import ct_slice, radiograph

ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}
TITLE = "BENCH"
DISK = "disk alone"


@dataclass(frozen=True)
class Result:
    """One load on one server.

    Attributes:
        cpu_seconds: User and system time of the server and all of its children.
        peak_mb: Highest memory of them together, as sampled (proportional set size).
    """

    server: str
    load: str
    associations: int
    images: int
    seconds: float
    megabytes: float
    cpu_seconds: float
    peak_mb: float

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds


def make_images(folder: Path, ct: int, dx: int) -> dict[str, list[Path]]:
    """Write CT slices of 0.5 MB and radiographs of 10 MB, of noise."""
    noise = np.random.default_rng(1)
    loads: dict[str, list[Path]] = {"CT": [], "DX": []}
    pixels = noise.integers(0, 4000, (512, 512)).astype(np.uint16)
    study, series = generate_uid(), generate_uid()
    for number in range(ct):
        image = ct_slice(pixels, float(number), study=study, series=series, number=number + 1)
        loads["CT"].append(folder / f"ct{number:04}.dcm")
        image.save_as(loads["CT"][-1], enforce_file_format=True)
    pixels = noise.integers(0, 4000, (2500, 2000)).astype(np.uint16)
    for number in range(dx):
        loads["DX"].append(folder / f"dx{number:04}.dcm")
        radiograph(pixels, study=study).save_as(loads["DX"][-1], enforce_file_format=True)
    return loads


def node(port: int, folder: Path, receivers: int, indexed: bool) -> list[str]:
    module = [sys.executable, "-m", "tests.benchmarks.node_process"]
    return [*module, str(port), str(folder), str(receivers), str(int(indexed))]


def storescp(port: int, folder: Path) -> list[str]:
    return ["storescp", "--fork", "-aet", TITLE, "-od", str(folder), str(port)]


def plain_pynetdicom(port: int, folder: Path) -> list[str]:
    module = [sys.executable, "-m", "pynetdicom", "storescp"]
    return [*module, "-q", "-aet", TITLE, "-od", str(folder), str(port)]


def orthanc(port: int, folder: Path) -> list[str]:
    (folder / "orthanc.json").write_text(
        json.dumps(
            {
                "Name": TITLE,
                "DicomAet": TITLE,
                "DicomPort": port,
                "HttpServerEnabled": False,
                "StorageDirectory": str(folder / "storage"),
                "IndexDirectory": str(folder / "storage"),
                "DicomAlwaysAllowStore": True,
                "Plugins": [],
            }
        )
    )
    return ["Orthanc", str(folder / "orthanc.json")]


class Meter(threading.Thread):
    """Samples the memory of a process and its children, seldom: to look takes milliseconds."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._stop_it = threading.Event()
        self.peak = 0

    def run(self) -> None:
        while not self._stop_it.wait(0.5):
            self._look()

    def _look(self) -> None:
        self.peak = max(self.peak, sum(map(resident, family(self._pid))))

    def finish(self) -> float:
        self._stop_it.set()
        self.join()
        self._look()
        return self.peak / 1e6


def family(pid: int) -> list[int]:
    """A process and all of its descendants."""
    members = [pid]
    for member in members:
        with contextlib.suppress(OSError):
            members += map(int, Path(f"/proc/{member}/task/{member}/children").read_text().split())
    return members


def resident(pid: int) -> int:
    """Proportional set size in bytes: a page that processes share is divided among them."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, its living children and those it has waited for."""
    total = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running(command: list[str], port: int) -> Iterator[int]:
    """Start a server, wait until it answers C-ECHO, and stop it at the end."""
    process = subprocess.Popen(
        command,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
    )
    try:
        until = time.monotonic() + 60
        echo = ["echoscu", "-aec", TITLE, "127.0.0.1", str(port)]
        while subprocess.run(echo, env=ENVIRONMENT, capture_output=True, check=False).stderr:
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"it does not start: {' '.join(command)}")
            threading.Event().wait(0.2)
        # receivers that start beside each other, and an index, need a moment more
        threading.Event().wait(2)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def send(files: list[Path], port: int, associations: int) -> float:
    """Send files over several associations at once; returns the seconds it took."""
    shares = [files[number::associations] for number in range(associations)]
    base = ["storescu", "-aec", TITLE, "127.0.0.1", str(port)]
    begin = time.perf_counter()
    senders = [
        subprocess.Popen([*base, *map(str, share)], env=ENVIRONMENT, stderr=subprocess.PIPE)
        for share in shares
    ]
    errors = [sender.communicate()[1] for sender in senders]
    took = time.perf_counter() - begin
    if any(sender.returncode for sender in senders) or any(errors):
        raise SystemExit(f"a sender failed: {b''.join(errors)[:500].decode(errors='replace')}")
    return took


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder on a disk that has nothing else to do.

    Its files are emptied afterwards and not removed until the end: ext4 avoids the inodes of
    files that were removed just now, and whoever is measured next would pay for the search.
    """
    os.sync()
    folder = Path(tempfile.mkdtemp(prefix="ingest-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        yield folder
    finally:
        for file in folder.rglob("*"):
            if file.is_file():
                os.truncate(file, 0)


def measure(
    name: str, command: Callable[[int, Path], list[str]], load: str, files: list[Path], links: int
) -> Result:
    port = free_port()
    with scratch() as folder:
        with running(command(port, folder), port) as pid:
            meter = Meter(pid)
            meter.start()
            before = cpu_seconds(pid)
            seconds = send(files, port, links)
            cpu = cpu_seconds(pid) - before
            peak = meter.finish()
        kept = sum(file.stat().st_size > 100_000 for file in folder.rglob("*") if file.is_file())
        if kept < len(files):
            raise SystemExit(f"{name} kept {kept} of {len(files)} images")
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    return Result(name, load, links, len(files), seconds, megabytes, cpu, peak)


def measure_disk(load: str, files: list[Path]) -> Result:
    """What the disk alone allows one sender: each file written and fsynced, nothing else."""
    sizes = [file.stat().st_size for file in files]
    data = memoryview(os.urandom(max(sizes)))
    with scratch() as folder:
        begin, cpu = time.perf_counter(), time.process_time()
        for number, size in enumerate(sizes):
            fd = os.open(f"{folder}/{number}", os.O_CREAT | os.O_WRONLY)
            os.write(fd, data[:size])
            os.fsync(fd)
            os.close(fd)
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    return Result(DISK, load, 1, len(files), seconds, sum(sizes) / 1e6, cpu, 0)


def measure_large(megabytes: int) -> tuple[float, float, float]:
    """One multi-frame image of so many megabytes: the receiver's memory before, at most, MB/s."""
    port = free_port()
    with scratch() as folder:
        frames = megabytes * 1_000_000 // (512 * 512 * 2)
        image = ct_slice(
            np.zeros((512, 512)), 0.0, study=generate_uid(), series=generate_uid(), number=1
        )
        image.NumberOfFrames = frames
        image.PixelData = b""
        file = folder / "large.dcm"
        image.save_as(file, enforce_file_format=True)
        # Pixel Data is the last element: its length is set, and its zeros are a hole in the file
        size = frames * 512 * 512 * 2
        with file.open("r+b") as stream:
            stream.seek(-4, os.SEEK_END)
            stream.write(size.to_bytes(4, "little"))
            stream.truncate(stream.tell() + size)
        with running(node(port, folder, 1, False), port) as pid:
            (receiver,) = [one for one in family(pid) if one != pid and is_receiver(one)]
            before = resident(receiver)
            meter = Meter(receiver)
            meter.start()
            seconds = send([file], port, 1)
            peak = meter.finish()
    return before / 1e6, peak, size / 1e6 / seconds


def is_receiver(pid: int) -> bool:
    """Tell the receiver from Python's own helper among the node's processes."""
    return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()


def median(results: list[Result]) -> Result:
    first = results[0]
    return Result(
        first.server,
        first.load,
        first.associations,
        first.images,
        statistics.median(result.seconds for result in results),
        first.megabytes,
        statistics.median(result.cpu_seconds for result in results),
        statistics.median(result.peak_mb for result in results),
    )


def report(results: list[Result]) -> list[Result]:
    keys = dict.fromkeys((r.load, r.associations, r.server) for r in results)
    medians = {
        key: median([r for r in results if (r.load, r.associations, r.server) == key])
        for key in keys
    }
    print(f"{'load':5}{'assoc':>6}  {'server':12}{'images/s':>9}{'MB/s':>7}{'CPU s':>7}{'MB':>6}")
    for (load, links, server), one in sorted(medians.items()):
        print(
            f"{load:5}{links:6}  {server:12}{one.images_per_second:9.0f}"
            f"{one.megabytes / one.seconds:7.0f}{one.cpu_seconds:7.1f}{one.peak_mb:6.0f}"
        )
    for (load, links, server), one in sorted(medians.items()):
        ours = medians.get((load, links, "node"))
        if ours and server not in ("node", DISK):
            ratio = ours.images_per_second / one.images_per_second
            print(f"{load} {links} association(s): node = {ratio:.2f} x {server}")
    for load in dict.fromkeys(key[0] for key in keys):
        alone = medians.get((load, 1, "node"))
        four = medians.get((load, 4, "node"))
        if alone and four:
            ratio = four.images_per_second / alone.images_per_second
            print(f"{load}: node at four associations = {ratio:.2f} x node at one")
    return list(medians.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ct", type=int, default=500, help="number of CT slices")
    parser.add_argument("--dx", type=int, default=40, help="number of radiographs")
    parser.add_argument("--associations", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--receivers", type=int, default=2, help="receiver processes of the node")
    parser.add_argument("--no-index", action="store_true", help="the node without its index")
    parser.add_argument("--servers", nargs="+", default=["node", "storescp", "Orthanc", "plain"])
    parser.add_argument("--large", type=int, default=2000, help="MB of a large image; 0: none")
    parser.add_argument("--json", type=Path, help="write the medians here, too")
    options = parser.parse_args()
    servers: dict[str, Callable[[int, Path], list[str]]] = {
        "node": lambda port, folder: node(port, folder, options.receivers, not options.no_index),
        "storescp": storescp,
        "Orthanc": orthanc,
        "plain": plain_pynetdicom,
    }
    missing = [name for name in ("storescu", "storescp", "Orthanc") if not shutil.which(name)]
    if missing:
        raise SystemExit(f"not installed: {', '.join(missing)}")
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="ingest-images-") as folder:
        loads = make_images(Path(folder), options.ct, options.dx)
        for number in range(options.rounds):
            for load, files in [(load, files) for load, files in loads.items() if files]:
                results.append(measure_disk(load, files))
                for links in options.associations:
                    for name in options.servers:
                        results.append(measure(name, servers[name], load, files, links))
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    medians = report(results)
    if options.large:
        before, peak, rate = measure_large(options.large)
        print(
            f"one image of {options.large} MB: receiver {before:.0f} MB idle, "
            f"{peak:.0f} MB at most ({peak - before:+.0f} MB), {rate:.0f} MB/s"
        )
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in medians], indent=1))


if __name__ == "__main__":
    main()
