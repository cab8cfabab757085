"""What Linux offers and Python does not: prctl, priorities of input and output."""

from __future__ import annotations

import ctypes
import os
import signal
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_IOPRIO = {"best-effort": 2 << 13 | 7, "idle": 3 << 13}

_libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    """Become a subreaper: whatever our descendants leave behind becomes our child."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def call_us(name: str) -> None:
    """Set the name by which `ps` knows us."""
    _libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def die_with_parent() -> None:
    """Be killed when our parent ends; a change of user clears it."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def set_io_class(io_class: str) -> None:
    """Let others read and write first."""
    number = _IOPRIO_SET.get(os.uname().machine)
    if number is not None:
        _libc.syscall(number, 1, 0, _IOPRIO[io_class])


def boot_seconds() -> float:
    """Return the seconds since boot, time asleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def write(path: str, text: str | bytes) -> None:
    """Write a whole file, which may be one of the kernel's."""
    with open(path, "wb") as file:
        file.write(text.encode() if isinstance(text, str) else text)
