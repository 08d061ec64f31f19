"""Runs a command under the system call filters of a systemd unit, where no systemd runs.

`python -m tests.unit.deploy.sandbox UNIT COMMAND …`: the settings NoNewPrivileges,
SystemCallFilter, MemoryDenyWriteExecute and RestrictAddressFamilies are read from the unit and
set by libseccomp as systemd.exec(5) describes; which calls a set holds is asked of
`systemd-analyze syscall-filter`. The command and all that it starts inherit them.
"""

from __future__ import annotations

import configparser
import ctypes
import os
import socket
import subprocess
import sys
from errno import EAFNOSUPPORT, EPERM
from pathlib import Path
from typing import Final

PR_SET_NO_NEW_PRIVS: Final = 38
ALLOW: Final = 0x7FFF0000
PROT_WRITE, PROT_EXEC, SHM_EXEC = 2, 4, 0o100000
EQUAL, MASKED_EQUAL = 4, 7


def refuse(errno: int) -> int:
    return 0x00050000 | errno


class Comparison(ctypes.Structure):
    """`struct scmp_arg_cmp` of libseccomp."""

    _fields_ = [
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    ]


class Filter:
    """One seccomp filter."""

    def __init__(self, default: int) -> None:
        self._lib = ctypes.CDLL("libseccomp.so.2")
        self._lib.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._lib.seccomp_init(ctypes.c_uint32(default)))

    def add(self, action: int, call: str, *comparisons: Comparison) -> None:
        number = self._lib.seccomp_syscall_resolve_name(call.encode())
        if number < 0:
            return  # of another architecture
        several = (Comparison * len(comparisons))(*comparisons)
        status = self._lib.seccomp_rule_add_array(
            self._context, ctypes.c_uint32(action), number, len(comparisons), several
        )
        if status:
            raise OSError(-status, f"no rule for {call}")

    def load(self) -> None:
        status = self._lib.seccomp_load(self._context)
        if status:
            raise OSError(-status, "the filter was not loaded")


def service_of(unit: Path) -> dict[str, list[str]]:
    """The settings of a unit's [Service], each as often as it stands there."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in unit.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def is_on(settings: dict[str, list[str]], key: str) -> bool:
    value = settings.get(key, ["no"])[-1]
    return configparser.ConfigParser.BOOLEAN_STATES[value.lower()]


def calls_of(name: str) -> set[str]:
    """The system calls of a set such as @system-service, with those of the sets in it."""
    if not name.startswith("@"):
        return {name}
    told = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True
    )
    lines = [line.strip() for line in told.stdout.splitlines()[1:]]
    inside = [line for line in lines if line and not line.startswith("#")]
    return {call for line in inside for call in calls_of(line)}


def allowed_calls(settings: dict[str, list[str]]) -> set[str]:
    """The calls that SystemCallFilter= leaves; its first line must be a list of allowed ones."""
    allowed = calls_of("@default")
    for value in settings["SystemCallFilter"]:
        named = {call for name in value.lstrip("~").split() for call in calls_of(name)}
        allowed = allowed - named if value.startswith("~") else allowed | named
    return allowed


def confine(settings: dict[str, list[str]]) -> None:
    """Set the unit's filters on this process; they cannot be taken back."""
    if not is_on(settings, "NoNewPrivileges"):
        raise ValueError("the unit does not set NoNewPrivileges")
    # asked before systemd-analyze itself would be confined
    calls = Filter(refuse(EPERM))
    for call in allowed_calls(settings):
        calls.add(ALLOW, call)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    families = Filter(ALLOW)
    wanted = {getattr(socket, name) for name in settings["RestrictAddressFamilies"][0].split()}
    for family in set(range(46)) - wanted:
        families.add(refuse(EAFNOSUPPORT), "socket", Comparison(0, EQUAL, family, 0))
    families.load()
    if is_on(settings, "MemoryDenyWriteExecute"):
        both = PROT_WRITE | PROT_EXEC
        memory = Filter(ALLOW)
        memory.add(refuse(EPERM), "mmap", Comparison(2, MASKED_EQUAL, both, both))
        for call in ("mprotect", "pkey_mprotect"):
            memory.add(refuse(EPERM), call, Comparison(2, MASKED_EQUAL, PROT_EXEC, PROT_EXEC))
        memory.add(refuse(EPERM), "shmat", Comparison(2, MASKED_EQUAL, SHM_EXEC, SHM_EXEC))
        memory.load()
    calls.load()


if __name__ == "__main__":
    confine(service_of(Path(sys.argv[1])))
    os.execvp(sys.argv[2], sys.argv[2:])
