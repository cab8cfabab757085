"""See who is logged in at pseudo-terminals, text consoles and graphical seats of this machine.

A pseudo-terminal (`pts/N`: ssh, terminal windows, tmux panes) always counts, root's too. A console
(`ttyN`) counts if it belongs to a user, as login makes it, or if root's is used by anything but
the getty that waits for a login. Who types is told by the access time, which Linux moves on input
only, never on output. That time is of the wall clock, which may be set meanwhile: it is compared
with that clock once, when a terminal is seen first; then it is only looked at whether it moved.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from gleaner.runtime import boot_seconds
from gleaner.settings import PeopleSettings
from services.collector.interface import Terminal
from services.collector.people.logind import Logind

ACCESS_STEP_SECONDS = 8
"""Linux moves a terminal's access time at most this often, so that it does not tell key strokes.

Taken off the idle time: else somebody would count as gone up to eight seconds too early.
"""


@dataclass(frozen=True, kw_only=True)
class LastInput:
    """When somebody typed last at a terminal, as far as its access time tells."""

    accessed_ns: int
    """The access time; by the wall clock, as it stood then."""
    changed_ns: int
    """The time of change (of owner, rights or times), which no key moves."""
    at: float
    """The same moment by CLOCK_BOOTTIME, in seconds."""

    def idle_seconds(self, steady: float) -> float:
        """Return how long nobody has typed for certain."""
        return max(0.0, steady - self.at - ACCESS_STEP_SECONDS)


def last_input(
    before: LastInput | None, accessed_ns: int, changed_ns: int, wall: float, steady: float
) -> LastInput:
    """Return when the last input came: when the access time was seen to move, if it was."""
    if before is None or before.changed_ns != changed_ns:
        # An access time in the future says nothing but that the clock was set back.
        at = steady - max(0.0, wall - accessed_ns / 1e9)
    elif before.accessed_ns != accessed_ns:
        at = steady
    else:
        return before
    return LastInput(accessed_ns=accessed_ns, changed_ns=changed_ns, at=at)


_CONSOLE = re.compile(r"tty([1-9]\d*)")


class RealTerminals:
    """The terminals below a device directory, and logind's seats."""

    def __init__(
        self,
        settings: PeopleSettings,
        *,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = boot_seconds,
        logind: Logind | None = None,
    ) -> None:
        self._directory = settings.device_directory
        self._clock = clock
        self._steady = steady
        self._inputs: dict[str, LastInput] = {}
        self._logind = (logind or Logind()) if settings.seats else None
        self._root_consoles: dict[str, tuple[int, int, int]] = {}
        self._used_consoles: frozenset[int] = frozenset()

    async def look(self) -> tuple[Terminal, ...]:
        """See `Terminals.look`."""
        # In a thread: a user's name may come from a directory server that is slow today.
        found = await asyncio.to_thread(self._look)
        return found if self._logind is None else (*found, *await self._logind.seats())

    def problems(self) -> tuple[str, ...]:
        """See `Terminals.problems`."""
        return self._logind.problems() if self._logind is not None else ()

    async def close(self) -> None:
        """See `Terminals.close`."""
        if self._logind is not None:
            await self._logind.close()

    def _look(self) -> tuple[Terminal, ...]:
        found = (*self._pseudo_terminals(), *self._consoles())
        here = {terminal.where for terminal in found}
        self._inputs = {where: last for where, last in self._inputs.items() if where in here}
        return found

    def _pseudo_terminals(self) -> Iterator[Terminal]:
        # ptmx is no terminal: it makes them.
        for number in sorted(int(name) for name in self._names("pts") if name.isdecimal()):
            path = self._directory / "pts" / str(number)
            found = _stat(path)
            if found is not None:
                yield self._terminal(f"pts/{number}", path, found)

    def _consoles(self) -> list[Terminal]:
        consoles = {}
        for name in self._names(""):
            found = _stat(self._directory / name) if _CONSOLE.fullmatch(name) else None
            if found is not None:
                consoles[name] = found
        # Only what happens at a console can change who uses it, so processes are rarely asked.
        roots = {
            name: (found.st_rdev, found.st_ctime_ns, found.st_atime_ns)
            for name, found in consoles.items()
            if found.st_uid == 0
        }
        if roots != self._root_consoles:
            self._root_consoles, self._used_consoles = roots, _terminals_in_use()
        return [
            self._terminal(name, self._directory / name, found)
            for name, found in sorted(consoles.items(), key=lambda item: int(item[0][3:]))
            if found.st_uid != 0 or found.st_rdev in self._used_consoles
        ]

    def _names(self, folder: str) -> list[str]:
        return os.listdir(self._directory / folder)

    def _terminal(self, where: str, path: Path, found: os.stat_result) -> Terminal:
        now, steady = self._clock(), self._steady()
        before = self._inputs.get(where)
        last = last_input(before, found.st_atime_ns, found.st_ctime_ns, now, steady)
        self._inputs[where] = last
        return Terminal(
            where=where,
            user_id=found.st_uid,
            user=_user(found.st_uid, int(steady // 600)),
            idle_seconds=last.idle_seconds(steady),
            path=path,
        )


def _stat(path: Path) -> os.stat_result | None:
    try:
        found = os.stat(path)
    except OSError:  # It vanished since it was listed.
        return None
    return found if stat.S_ISCHR(found.st_mode) else None


@lru_cache(maxsize=4096)
def _user(user_id: int, _period: int) -> str | None:
    """Return a user's name; one that is not known is asked for again in the next period."""
    try:
        return _name(user_id)
    except KeyError:
        return None


@lru_cache(maxsize=4096)
def _name(user_id: int) -> str:
    # Kept for ever: a directory server that hangs must not hold up the watch over known people.
    return pwd.getpwuid(user_id).pw_name


def _terminals_in_use() -> frozenset[int]:
    """Return the device numbers of terminals that a process other than a getty is bound to."""
    used = set()
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                name, _, rest = file.read().rpartition(b") ")
        except OSError:
            continue
        number = int(rest.split()[4])
        if number and not name.endswith(b"getty"):
            minor = number & 0xFF | number >> 12 & 0xFFF00
            used.add(os.makedev(number >> 8 & 0xFFF, minor))
    return frozenset(used)
