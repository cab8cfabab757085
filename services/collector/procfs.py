"""The process table in /proc: who a pid is, and who holds which GPU device open.

A device is known by its number, not its path: a container has its own node for it. Devices that
a process has mapped but closed again are not seen here (reading every process's map is dear); the
driver lists such a process itself.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from services.collector.containers import container_of
from services.collector.interface import Process
from services.collector.printable import printable
from services.collector.users import UserNames

CAP_SYS_PTRACE = 1 << 19
PASS_SECONDS = 8.0
"""A pass over all processes is spread over this long: a full one in 10 s, with room to spare."""
HURRY_SECONDS = 0.05
"""Who grants a scan this much wants to know now: a whole pass begins."""
IDENTITY_SECONDS = 5.0
"""A process may change cgroup or program, so that what was read of it grows old."""
HOSTS_PID_NAMESPACE = 0xEFFFFFFC
"""The inode that the kernel gives to the first process table (PROC_PID_INIT_INO)."""
NAMESPACE_LIMITATION = (
    "this container has a process table of its own: whoever uses a GPU from outside cannot be "
    "named, and the GPU is dirty; start the container with --pid=host"
)
_ORDINARY = frozenset({"/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"})
TOKEN = b"GLEANER_RUN_TOKEN="


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
        self._full = command_lines == "full"
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        self._numbers: dict[int, frozenset[str]] = {}
        self._names: frozenset[str] = frozenset()
        self._holders: dict[int, dict[str, str]] = {}
        self._pass = _Pass(pids=[], started_at=-PASS_SECONDS)
        self._is_new = False
        self._users = UserNames()
        self._identities: dict[int, tuple[float, str, Process]] = {}
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
            self._is_new = True

    def identify(self, pid: int) -> Process | None:
        """See `Processes`."""
        try:
            line = _read(f"/proc/{pid}/stat")
        except OSError:
            self._identities.pop(pid, None)
            return None
        head, _, tail = line.rpartition(")")
        fields = tail.split()
        if fields[0] in "ZX":
            # Nothing is left of it but its status; whatever it held is closed.
            return None
        name, parent, ticks = head.partition("(")[2], int(fields[1]), int(fields[19])
        known = self._identities.get(pid)
        now = time.monotonic()
        if (
            known is not None
            and now - known[0] < IDENTITY_SECONDS
            and known[1] == name
            and (known[2].started_ticks, known[2].parent_pid) == (ticks, parent)
        ):
            return known[2]
        try:
            process, is_complete = self._read_identity(pid, name, parent, ticks)
        except OSError:
            return None
        if is_complete:
            if len(self._identities) > 1000:
                self._identities.clear()
            self._identities[pid] = (now, name, process)
        return process

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
        self, budget_seconds: float, is_enough: Callable[[int, frozenset[str]], bool] | None = None
    ) -> bool:
        """See `Processes`; one pass is spread over `PASS_SECONDS` unless there is a hurry.

        The first one after `watch` is whole, whatever the budget: who came before us must be known
        before anything is called idle.
        """
        if not self._numbers:
            return True
        now = time.monotonic()
        hurry = self._is_new or budget_seconds >= HURRY_SECONDS
        if self._pass.is_done:
            begins = hurry or now - self._pass.started_at >= PASS_SECONDS
        else:
            # A pass too long for one call goes on with the next: old processes have their turn.
            begins = hurry and not self._pass.hurried
        if begins:
            self._pass = _Pass(
                pids=newest_first(_pids(), _last_pid()), started_at=now, hurried=hurry
            )
        until = now + (math.inf if self._is_new else budget_seconds)
        work = self._pass
        while not work.is_done and now < until and (hurry or not work.is_ahead(now)):
            pid = work.pids[work.next]
            held = self.holds(pid)
            work.next += 1
            now = time.monotonic()
            if held and is_enough and is_enough(pid, held):
                # Whoever is in a hurry next begins with the newcomers again.
                work.hurried = False
                break
        self._is_new = self._is_new and not work.is_done
        return work.is_done

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

    def _read_identity(self, pid: int, name: str, parent: int, ticks: int) -> tuple[Process, bool]:
        """Return who it is, and whether that is all: in the midst of exec there are no words.

        A user's name that takes long is there the next time.
        """
        status = _read(f"/proc/{pid}/status")
        cgroups = _read(f"/proc/{pid}/cgroup")
        words = _words(pid)
        user_id = int(status.partition("\nUid:")[2].split(maxsplit=1)[0])
        program = _program(pid, name, words)
        process = Process(
            pid=pid,
            started_ticks=ticks,
            started_at=datetime.fromtimestamp(self._booted + ticks / self._ticks, UTC),
            parent_pid=parent,
            user_id=user_id,
            user=self._users.of(user_id),
            program=printable(program),
            command=printable(
                " ".join(words) if self._full and words else _short_command(program, words)
            ),
            cgroup=_cgroup(cgroups),
            token=_token(pid),
            container=container_of(cgroups),
        )
        return process, words != [""] and self._users.knows(user_id)


def can_see_others() -> bool:
    """Return whether we may look at the open files of everybody's processes."""
    effective = _read("/proc/self/status").partition("\nCapEff:")[2].split(maxsplit=1)[0]
    return bool(int(effective, 16) & CAP_SYS_PTRACE)


def limitations() -> tuple[str, ...]:
    """Return what this process table cannot show, one sentence each."""
    with contextlib.suppress(OSError):
        if os.stat("/proc/self/ns/pid").st_ino != HOSTS_PID_NAMESPACE:
            return (NAMESPACE_LIMITATION,)
    return ()


def _read(path: str) -> str:
    with open(path, "rb", buffering=0) as file:
        return file.read().decode(errors="replace")


def newest_first(pids: Iterable[int], last: int) -> list[int]:
    """Return pids by age; `last` is the newest, and those above are older: numbers begin anew."""
    return sorted(pids, key=lambda pid: (pid <= last, pid), reverse=True)


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _last_pid() -> int:
    return int(_read("/proc/loadavg").rsplit(maxsplit=1)[1])


def _words(pid: int) -> list[str]:
    with open(f"/proc/{pid}/cmdline", "rb", buffering=0) as file:
        text = file.read(4096).decode(errors="replace")
    # A process that writes its own title leaves one text without ends of words.
    words = text.rstrip("\0").split("\0")
    return words[0].split(" ") if len(words) == 1 else words


def _program(pid: int, name: str, words: list[str]) -> str:
    """Return what was started: a script by its own name, else the program's file."""
    # The kernel names a script that was started by its name after the script, not its interpreter.
    for word in words[1:5]:
        script = word.rpartition("/")[2]
        if script and script.encode()[:15] == name.encode():
            return script
    with contextlib.suppress(OSError):
        path = os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
        return path.rpartition("/")[2] or name
    return name


def _short_command(program: str, words: list[str]) -> str:
    """Return program and script without further arguments, which may hold secrets."""
    first = words[0].rpartition("/")[2] if words and words[0] else program
    rest = iter(words[1:])
    for word in rest:
        if word == "-m":
            return f"{first} -m {next(rest, '')}".rstrip()
        if not word.startswith("-"):
            is_script = os.path.splitext(word)[1] in (
                ".py",
                ".sh",
                ".pl",
                ".rb",
                ".jl",
                ".R",
                ".js",
            )
            return f"{first} {word}" if is_script or word.endswith("/" + program) else first
        if word == "-c":
            break
    return first


def _cgroup(text: str) -> str | None:
    """Return the path in cgroup v2: the line `0::/path`."""
    for line in text.splitlines():
        if line.startswith("0::"):
            return line[3:]
    return None


def _token(pid: int) -> str | None:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
        for word in file.readall().split(b"\0"):
            if word.startswith(TOKEN):
                return word[len(TOKEN) :].decode(errors="replace")
    return None
