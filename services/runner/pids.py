"""Find processes and signal them, and nobody else.

A pid alone is never trusted: it is a process of ours if boot, pid and start ticks match, and a
signal goes to a pidfd that was opened before that was checked.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

from services.runner.supervisor.processes import read_stat


def open_pidfd(pid: int, ticks: int) -> int | None:
    """Return a pidfd of a living process if its start ticks match, else None."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    fields = read_stat(pid)
    if fields is None or int(fields[19]) != ticks or fields[0] in "ZX":
        os.close(pidfd)
        return None
    return pidfd


def with_token(token: str) -> set[int]:
    """Return all processes whose environment holds a run's token."""
    wanted, found = f"GLEANER_RUN_TOKEN={token}".encode(), set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                    found.add(int(name))
    return found


def in_session(session: int) -> set[int]:
    """Return all living processes of a session."""
    stats = {name: read_stat(name) for name in os.listdir("/proc") if name.isdigit()}
    return {
        int(name)
        for name, fields in stats.items()
        if fields and int(fields[3]) == session and fields[0] not in "ZX"
    }


def signal_all(
    processes: Callable[[], set[int]],
    number: signal.Signals,
    but: frozenset[int] | set[int] = frozenset(),
) -> set[int]:
    """Signal all of a changing set of processes; return those that were.

    Each is held by a pidfd first and looked for again then, so that a number that was given to
    somebody else in between is left alone.
    """
    held: dict[int, int] = {}
    for pid in processes() - but:
        with contextlib.suppress(OSError):
            held[pid] = os.pidfd_open(pid)
    told = held.keys() & processes() if held else set()
    for pid, pidfd in held.items():
        if pid in told:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(pidfd, number)
        os.close(pidfd)
    return told
