"""The process table in /proc: who holds which GPU device open.

A device is known by its number, not its path: a container has its own node for it. Devices that
a process has mapped but closed again are not seen here (reading every process's map is dear); the
driver lists such a process itself.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from services.collector.interface import Process
from services.collector.processes.identity import Identities, read_text

CAP_SYS_PTRACE = 1 << 19
PASS_SECONDS = 8.0
"""A pass over all processes is spread over this long: a full one in 10 s, with room to spare."""
SETTLED_SECONDS = 0.1
"""The kernel adds up what a process has run with each tick of its clock, or when it stops."""
HOSTS_PID_NAMESPACE = 0xEFFFFFFC
"""The inode that the kernel gives to the first process table (PROC_PID_INIT_INO)."""
NAMESPACE_LIMITATION = (
    "this container has a process table of its own: whoever uses a GPU from outside cannot be "
    "named, and the GPU is dirty; start the container with --pid=host"
)
_ORDINARY = frozenset({"/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"})


@dataclass(kw_only=True)
class _Pass:
    """One pass over all processes, newest first."""

    pids: list[int]
    started_at: float
    next: int = 0
    hurried: bool = False

    @property
    def is_done(self) -> bool:
        return self.next >= len(self.pids)

    def is_ahead(self, now: float) -> bool:
        """Whether enough is done for now to be through in time."""
        return self.next * PASS_SECONDS > (now - self.started_at) * len(self.pids)


class ProcfsProcesses:
    """See `Processes`."""

    def __init__(self, command_lines: Literal["program", "full"] = "program") -> None:
        self._identities = Identities(command_lines)
        self._numbers: dict[int, frozenset[str]] = {}
        self._names: frozenset[str] = frozenset()
        self._holders: dict[int, dict[str, str]] = {}
        self._pass = _Pass(pids=[], started_at=-PASS_SECONDS)
        self._asleep: dict[int, tuple[bytes, float]] = {}
        """Who held nothing when it was looked at, then; and what it had run by then."""
        self.is_new = False
        self.sees_others = can_see_others()

    def watch(self, devices: dict[str, Path]) -> None:
        """Say which devices to look for; called again when there are others."""
        numbers: dict[int, frozenset[str]] = {}
        for gpu, path in devices.items():
            with contextlib.suppress(OSError):
                number = os.stat(path).st_rdev
                numbers[number] = numbers.get(number, frozenset()) | {gpu}
        if numbers != self._numbers:
            self._numbers = numbers
            self._names = frozenset(path.name for path in devices.values())
            self._asleep.clear()
            self._pass = _Pass(pids=[], started_at=-PASS_SECONDS)
            self.is_new = True

    def identify(self, pid: int) -> Process | None:
        """See `Processes`."""
        return self._identities.identify(pid)

    def holds(self, pid: int) -> frozenset[str]:
        """See `Processes`."""
        held = self._devices_of(pid) if self._numbers else {}
        if held:
            self._holders[pid] = held
        else:
            self._holders.pop(pid, None)
        return frozenset(held)

    def holders(self) -> dict[str, frozenset[int]]:
        """See `Processes`."""
        found: dict[str, set[int]] = {}
        for pid, held in list(self._holders.items()):
            for gpu in held if self._still(pid, held) else self.holds(pid):
                found.setdefault(gpu, set()).add(pid)
        return {gpu: frozenset(pids) for gpu, pids in found.items()}

    def scan(
        self,
        budget_seconds: float,
        is_enough: Callable[[int, frozenset[str]], bool] | None = None,
        *,
        hurry: bool = False,
    ) -> bool:
        """See `Processes`; one pass is spread over `PASS_SECONDS` unless there is a hurry."""
        if not self._numbers:
            self.is_new = False
            return True
        now = time.monotonic()
        hurry = hurry or self.is_new
        if self._pass.is_done:
            begins = hurry or now - self._pass.started_at >= PASS_SECONDS
        else:
            # A pass too long for one call goes on with the next: old processes have their turn.
            begins = hurry and not self._pass.hurried
        if begins:
            self._begin(now, hurried=hurry)
        until = now + budget_seconds
        work = self._pass
        while not work.is_done and now < until and (hurry or not work.is_ahead(now)):
            pid = work.pids[work.next]
            held = self._look(pid, now)
            work.next += 1
            now = time.monotonic()
            if held and is_enough and is_enough(pid, held):
                # Whoever is in a hurry next begins with the newcomers again.
                work.hurried = False
                break
        self.is_new = self.is_new and not work.is_done
        return work.is_done

    def _begin(self, now: float, *, hurried: bool) -> None:
        pids = newest_first(_pids(), _last_pid())
        self._pass = _Pass(pids=pids, started_at=now, hurried=hurried)
        self._asleep = {pid: self._asleep[pid] for pid in pids if pid in self._asleep}

    def _look(self, pid: int, now: float) -> frozenset[str]:
        """Return what one process holds; who has slept since it held nothing holds nothing."""
        ran = _has_run(pid)
        before, looked_at = self._asleep.get(pid, (None, now))
        if ran is not None and ran == before and now - looked_at > SETTLED_SECONDS:
            return frozenset()
        held = self.holds(pid)
        if ran is None or held:
            self._asleep.pop(pid, None)
        else:
            self._asleep[pid] = ran, now
        return held

    def _still(self, pid: int, held: dict[str, str]) -> bool:
        """Return whether the very descriptors that were seen are still those devices.

        Cheaper than a look at all of them: a training run has many workers with many files.
        """
        try:
            return all(
                gpu in self._numbers.get(os.stat(f"/proc/{pid}/fd/{name}").st_rdev, ())
                for gpu, name in held.items()
            )
        except OSError:
            return False

    def _devices_of(self, pid: int) -> dict[str, str]:
        """Return GPU to descriptor for each device held; the inner loop of every pass."""
        found: dict[str, str] = {}
        try:
            directory = os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return found
        try:
            for name in os.listdir(directory):
                try:
                    path = os.readlink(name, dir_fd=directory)
                    # Only what may be a device is asked for its number: a stat of a file on a
                    # network file system that does not answer would hang us.
                    if path[:5] == "/dev/":
                        if path in _ORDINARY or path[:9] == "/dev/pts/":
                            continue
                    elif path[:1] != "/" or path.rpartition("/")[2] not in self._names:
                        continue
                    status = os.stat(name, dir_fd=directory)
                except OSError:
                    continue
                if stat.S_ISCHR(status.st_mode):
                    for gpu in self._numbers.get(status.st_rdev, ()):
                        found[gpu] = name
        except OSError:  # It ended while we looked.
            return found
        finally:
            os.close(directory)
        return found


def can_see_others() -> bool:
    """Return whether we may look at the open files of everybody's processes."""
    effective = read_text("/proc/self/status").partition("\nCapEff:")[2].split(maxsplit=1)[0]
    return bool(int(effective, 16) & CAP_SYS_PTRACE)


def limitations() -> tuple[str, ...]:
    """Return what this process table cannot show, one sentence each."""
    with contextlib.suppress(OSError):
        if os.stat("/proc/self/ns/pid").st_ino != HOSTS_PID_NAMESPACE:
            return (NAMESPACE_LIMITATION,)
    return ()


def _has_run(pid: int) -> bytes | None:
    """Return how long and how often a process has run; None where that says too little.

    Only of one thread: the kernel adds up no threads here. A third of the price of a look at
    twenty files, and most processes of a machine sleep.
    """
    try:
        # Two links, and one for each thread.
        if os.stat(f"/proc/{pid}/task").st_nlink != 3:
            return None
        file = os.open(f"/proc/{pid}/schedstat", os.O_RDONLY)
    except OSError:
        return None
    try:
        ran = os.read(file, 100)
    except OSError:
        return None
    finally:
        os.close(file)
    # A kernel that does not count says 0.
    return None if ran.startswith(b"0 ") else ran


def newest_first(pids: Iterable[int], last: int) -> list[int]:
    """Return pids by age; `last` is the newest, and those above are older: numbers begin anew."""
    return sorted(pids, key=lambda pid: (pid <= last, pid), reverse=True)


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _last_pid() -> int:
    return int(read_text("/proc/loadavg").rsplit(maxsplit=1)[1])
