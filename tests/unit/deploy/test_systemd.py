"""The systemd units: verified, hardened, and the node's work goes on under their filters."""

from __future__ import annotations

import pwd
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.serve.roles import ROLES
from dicom_node.serve.supervisor import ROLE_EXIT_CONFIG, Patience
from tests.unit.deploy.sandbox import allowed_calls, service_of

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "systemd"
UNITS = ["dicom-node.service", "dicom-node@.service"]
DROP_INS = sorted((FOLDER / "dropins").glob("*.conf"))
WORST_EXPOSURE = 15
"""Tenths: the highest level of exposure that a unit may have for `systemd-analyze security`."""


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(item) for item in command], capture_output=True, text=True, check=False
    )


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest) -> Path:
    return FOLDER / str(request.param)


@pytest.fixture
def installed(unit: Path, tmp_path: Path) -> Path:
    """The unit in a folder of its own, with programs that are on this machine."""
    text = unit.read_text(encoding="utf-8")
    copy = tmp_path / unit.name.replace("@.", "@worker.")
    copy.write_text(
        text.replace("/opt/dicom-node/.venv/bin/dicom-node", sys.executable).replace(
            "/opt/dicom-node/docs", str(ROOT / "docs")
        )
    )
    return copy


def test_systemd_finds_no_fault_in_a_unit(installed: Path) -> None:
    told = run("systemd-analyze", "verify", "--man=no", installed)
    assert (told.returncode, told.stdout + told.stderr) == (0, "")


@pytest.mark.parametrize("drop_in", DROP_INS, ids=lambda path: path.name)
def test_systemd_finds_no_fault_in_a_drop_in(installed: Path, drop_in: Path) -> None:
    folder = installed.with_name(f"{installed.name}.d")
    folder.mkdir()
    shutil.copy(drop_in, folder)
    told = run("systemd-analyze", "verify", "--man=no", installed)
    assert (told.returncode, told.stdout + told.stderr) == (0, "")


def test_systemd_would_find_a_fault(installed: Path) -> None:
    installed.write_text(installed.read_text().replace("ProtectSystem=strict", "ProtectSystem=x"))
    told = run("systemd-analyze", "verify", "--man=no", installed)
    assert "Failed to parse protect system value" in told.stderr


def test_a_unit_exposes_little(installed: Path) -> None:
    told = run(
        *("systemd-analyze", "security", "--offline=yes", "--no-pager"),
        *(f"--threshold={WORST_EXPOSURE}", installed),
    )
    assert told.returncode == 0, told.stdout
    weaker = installed.read_text().replace("NoNewPrivileges=yes", "NoNewPrivileges=no")
    installed.write_text(weaker.replace("ProtectSystem=strict", "ProtectSystem=no"))
    assert run(*told.args[:-1], installed).returncode != 0


def test_a_unit_fits_the_node(unit: Path) -> None:
    settings = service_of(unit)
    alone = unit.name == "dicom-node.service"
    role = "" if alone else " --role %i"
    assert settings["ExecStart"] == [f"/opt/dicom-node/.venv/bin/dicom-node serve{role}"]
    assert settings["User"] == ["dicom-node"]
    assert settings["RestartPreventExitStatus"] == [str(ROLE_EXIT_CONFIG)]
    assert settings["KillMode"] == ["mixed"]
    # roles get their time and are killed before systemd kills all
    assert float(settings["TimeoutStopSec"][0]) > Patience().ending
    assert settings["StateDirectory"] == ["dicom-node"]
    assert settings["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    # a supervisor is left to start again what the kernel killed
    assert settings.get("OOMPolicy") == (["continue"] if alone else None)
    if not alone:
        for name in (*ROLES, "web"):
            assert f"@{name}" in unit.read_text()


def test_both_units_are_hardened_alike() -> None:
    one, each = (service_of(FOLDER / name) for name in UNITS)
    apart = {key for key in {*one, *each} if one.get(key) != each.get(key)}
    assert apart == {"ExecStart", "OOMPolicy"}


def test_the_account_and_the_folders_are_made(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "group").write_text("root:x:0:\n")
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    made = run("systemd-sysusers", f"--root={root}", FOLDER / "dicom-node.sysusers")
    assert made.returncode == 0, made.stderr
    line = re.search(r"^dicom-node:.*$", (root / "etc" / "passwd").read_text(), re.MULTILINE)
    assert line
    account = pwd.struct_passwd(line[0].split(":"))
    assert account.pw_dir == "/var/lib/dicom-node"
    assert account.pw_shell.endswith("nologin")
    made = run("systemd-tmpfiles", "--create", f"--root={root}", FOLDER / "dicom-node.tmpfiles")
    assert made.returncode == 0, made.stderr
    assert (root / "var/lib/dicom-node").stat().st_mode & 0o777 == 0o700
    assert (root / "etc/dicom-node").stat().st_mode & 0o777 == 0o750


CONVOLUTION = """
import torch
torch.set_num_threads(1)
network = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3), torch.nn.BatchNorm2d(32)).eval()
print(tuple(network(torch.ones(2, 3, 64, 64)).shape))
"""
PROBE = """
import errno, os, socket
def refused(call, *given):
    try:
        call(*given)
    except OSError as error:
        return errno.errorcode[error.errno]
socket.create_server(("127.0.0.1", 0)).close()
os.nice(10)
print(refused(os.chown, ".", 0, 0), refused(socket.socket, socket.AF_PACKET, socket.SOCK_RAW))
"""


def confined(unit: Path, program: str) -> subprocess.CompletedProcess[str]:
    module = ("-m", "tests.unit.deploy.sandbox", unit, sys.executable, "-c", program)
    return subprocess.run(
        [sys.executable, *map(str, module)], capture_output=True, text=True, cwd=ROOT, check=False
    )


def test_a_network_runs_under_the_units_filters() -> None:
    told = confined(FOLDER / "dicom-node.service", CONVOLUTION)
    assert told.stdout == "(2, 32, 62, 62)\n", told.stderr


def test_the_filters_let_pass_what_the_node_does_and_nothing_of_the_administrator() -> None:
    unit = FOLDER / "dicom-node.service"
    told = confined(unit, PROBE)
    assert told.stdout == "EPERM EAFNOSUPPORT\n", told.stderr
    assert not {"mount", "setuid", "ptrace", "bpf"} & allowed_calls(service_of(unit))


def test_memory_that_is_written_and_run_is_allowed_because_pytorch_needs_it(
    tmp_path: Path,
) -> None:
    text = (FOLDER / "dicom-node.service").read_text()
    assert "MemoryDenyWriteExecute" not in service_of(FOLDER / "dicom-node.service")
    stricter = tmp_path / "strict.service"
    stricter.write_text(text.replace("[Install]", "MemoryDenyWriteExecute=yes\n[Install]"))
    told = confined(stricter, CONVOLUTION)
    assert "could not create a primitive" in told.stderr
