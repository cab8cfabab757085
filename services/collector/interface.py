"""The four things the collector reaches, each with a real and a simulated way to reach it.

`Source` asks the driver, `Processes` the process table, `Terminals` the people, and `Notices`
hears from the kernel before anybody asks. The simulated back end implements all four, so that a
simulated node runs the very same pipeline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from gleaner.bus.messages import GpuInventory, GpuReading, HostReading

SourceName = Literal["nvml", "device-files", "simulated"]
Kind = Literal["compute", "graphics", "mps"]
NoticedBy = Literal["fanotify", "inotify", "check", "script"]


@dataclass(frozen=True, kw_only=True)
class DriverProcess:
    """A process that the driver lists on a GPU."""

    pid: int
    kinds: frozenset[Kind]
    memory_used_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class DriverEvent:
    """Something that the driver reported of a GPU without being asked."""

    xid: int | None
    """NVIDIA's number of the error; None for a memory error that could not be corrected."""
    at: datetime


@dataclass(frozen=True, kw_only=True)
class EndedProcess:
    """What the driver's accounting has of a process that has ended."""

    pid: int
    started_at: datetime
    """When it began to use the GPU."""
    active_seconds: float
    memory_used_bytes: int | None
    utilization_percent: float | None
    memory_utilization_percent: float | None


@dataclass(frozen=True, kw_only=True)
class GpuSweep:
    """What the driver said about one GPU in one sweep."""

    gpu: str
    processes: tuple[DriverProcess, ...] | None
    """None: the driver did not answer, so nobody knows who is there."""
    reading: GpuReading
    lost: str | None = None
    """The driver's words if it says that the GPU is gone."""
    driver_asked: bool = True
    """False without NVML: then only who holds the device is known."""
    events: tuple[DriverEvent, ...] = ()
    """What was reported since the sweep before."""
    ended: tuple[EndedProcess, ...] = ()
    """Who has ended since the driver's accounting was asked last."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One pass over all GPUs."""

    gpus: tuple[GpuSweep, ...]
    problem: str | None = None
    """Why the driver cannot be asked at all (`"no answer within 3 s"`), or None."""
    session: int = 0
    """Another one when the driver was opened anew: only in between can a GPU have been reset."""


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What does not change while the driver stays."""

    gpus: tuple[GpuInventory, ...]
    driver_version: str | None
    problem: str | None
    limitations: tuple[str, ...]
    devices: dict[str, Path]
    """GPU to its device file; without those that have none (MIG devices).

    A simulated GPU's is only a name for `Notices`: there is no such file.
    """


class Source(Protocol):
    """Asks about GPUs; never raises for what a driver does, never exceeds its deadline."""

    @property
    def name(self) -> SourceName: ...
    async def hardware(self) -> Hardware: ...
    async def sweep(self) -> Sweep: ...
    async def host(self) -> HostReading: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Process:
    """Who a pid is, read once; pid and start ticks together are an identity."""

    pid: int
    started_ticks: int
    started_at: datetime
    parent_pid: int
    user_id: int
    user: str | None
    program: str
    """The program's file name if it can be read, else the kernel's name (15 bytes at most)."""
    command: str
    """For people to read, by `node.gpu.command_lines`."""
    cgroup: str | None
    """Path in cgroup v2, as in the last line of /proc/PID/cgroup."""
    token: str | None
    """`GLEANER_RUN_TOKEN` of its environment; None if there is none or it cannot be read."""
    container: str | None = None
    """The whole id of the innermost container it is in, or the name of a machine."""


class Processes(Protocol):
    """The process table, and who holds which GPU device open (by device number)."""

    sees_others: bool
    """False when other users' open files are hidden from us."""
    is_new: bool
    """Whether the first pass over all processes is not through yet: nobody may be called idle."""

    def identify(self, pid: int) -> Process | None:
        """Return who a pid is, or None if it is gone."""
        ...

    def holds(self, pid: int) -> frozenset[str]:
        """Return the GPUs whose device one process holds open right now."""
        ...

    def holders(self) -> dict[str, frozenset[int]]:
        """Return GPU to pids that hold its device, as far as the passes and `holds` have seen.

        Each pid named is looked at again, so the answer has no process that has let go.
        """
        ...

    def scan(
        self,
        budget_seconds: float,
        is_enough: Callable[[int, frozenset[str]], bool] | None = None,
        *,
        hurry: bool = False,
    ) -> bool:
        """Go on with the pass over all processes for this long; return whether it is complete.

        One is complete in 10 s, if nobody is in a `hurry`; the first one is always in a hurry.
        `is_enough` hears of each holder (its pid and GPUs) as it is seen, and may end the search.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """One terminal, console or seat that somebody is logged in at."""

    where: str
    """`pts/3`, `tty1`, `seat0`."""
    user_id: int
    user: str | None
    idle_seconds: float | None
    """Since the last input; None: cannot be told, which counts as active."""
    path: Path | None = None
    """The device to hear input from, if it has one."""


class Terminals(Protocol):
    """Who sits where."""

    async def look(self) -> tuple[Terminal, ...]:
        """Return all who are logged in; raise OSError if nobody can tell."""
        ...

    def problems(self) -> tuple[str, ...]:
        """Return who cannot be seen, and why, one sentence each."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Notice:
    """The kernel says that somebody opened a device, or that input was read from a terminal."""

    path: Path
    pid: int | None
    """Who did it; None where only inotify is possible."""
    noticed_ns: int
    """CLOCK_MONOTONIC, taken when the event was read."""
    by: NoticedBy


class Notices(Protocol):
    """Hears of opens (of GPU devices), of reads (of terminals: input only, never output) and of
    what is made in a directory (terminals: somebody logs in).

    To watch again what is watched already is cheap and repairs the watch of a device node that was
    replaced (a driver that was loaded anew, a terminal whose number was used again).
    """

    by: NoticedBy
    """How it hears of opens, for `Inventory`; `check` when the kernel tells us nothing."""
    reads_by: NoticedBy
    """How it hears of reads: before Linux 6.7 fanotify does not reach pseudo-terminals."""

    def watch_opens(self, path: Path, handler: Callable[[Notice], None]) -> bool:
        """Have a handler called for each open of a device; False if that is not possible."""
        ...

    def watch_reads(self, path: Path, handler: Callable[[Notice], None]) -> bool:
        """Have a handler called for each read from a terminal; False if that is not possible."""
        ...

    def watch_made(self, directory: Path, handler: Callable[[Notice], None]) -> bool:
        """Have a handler called for each file made in a directory; False if not possible."""
        ...

    def unwatch(self, path: Path) -> None:
        """Stop; a path that is not watched, or gone, is fine."""
        ...

    def close(self) -> None: ...
