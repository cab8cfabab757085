"""Who a pid is: user, program, container and whose child, read from /proc and kept for a moment."""

from __future__ import annotations

import contextlib
import os
import time
from datetime import UTC, datetime
from typing import Literal

from services.collector.interface import Process
from services.collector.printable import printable
from services.collector.processes.containers import container_of
from services.collector.processes.users import UserNames

IDENTITY_SECONDS = 5.0
"""A process may change cgroup or program, so that what was read of it grows old."""
TOKEN = b"GLEANER_RUN_TOKEN="


class Identities:
    """Who processes are; see `Processes.identify`."""

    def __init__(self, command_lines: Literal["program", "full"]) -> None:
        self._full = command_lines == "full"
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        self._users = UserNames()
        self._identities: dict[int, tuple[float, str, Process]] = {}

    def identify(self, pid: int) -> Process | None:
        """Return who a pid is, or None if it is gone."""
        try:
            line = read_text(f"/proc/{pid}/stat")
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

    def _read_identity(self, pid: int, name: str, parent: int, ticks: int) -> tuple[Process, bool]:
        """Return who it is, and whether that is all: in the midst of exec there are no words.

        A user's name that takes long is there the next time.
        """
        status = read_text(f"/proc/{pid}/status")
        cgroups = read_text(f"/proc/{pid}/cgroup")
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


def read_text(path: str) -> str:
    """Return what a file of /proc says."""
    with open(path, "rb", buffering=0) as file:
        return file.read().decode(errors="replace")


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
