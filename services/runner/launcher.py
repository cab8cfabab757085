"""What a runner needs of whoever starts processes; real and simulated pass the same tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from gleaner.settings import WorkloadSettings
from services.runner.supervisor import NEVER_STARTED

__all__ = ["NEVER_STARTED", "Account", "Handle", "Launcher", "Listener", "Order", "Report"]


@dataclass(frozen=True, kw_only=True)
class Account:
    """A user as the system knows him."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str


@dataclass(frozen=True, kw_only=True)
class Order:
    """One run to be started."""

    run: str
    entry: WorkloadSettings
    environment: dict[str, str]
    account: Account | None
    """Who runs it; None: who runs us."""
    directory: Path
    """Where spec and status of the run lie."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What is known of a run's processes."""

    state: Literal["ready", "running", "ended"]
    pid: int | None = None
    started_at: float | None = None
    """Seconds since the epoch."""
    exit_code: int | None = None
    exit_signal: int | None = None
    exited_ns: int | None = None
    """CLOCK_MONOTONIC when no process was left."""
    problem: str | None = None
    """Why the workload could not start."""
    stopped_by: str | None = None
    """Why the supervisor itself stopped it."""
    supervisor_gone: bool = False
    """The supervisor died first; everything of the run was killed."""
    output_problem: str | None = None
    """Why output is being dropped."""


Listener = Callable[[Report], None]
"""Called in the event loop whenever a report changes; `ended` is the last one."""


class Handle(Protocol):
    """The processes of one run."""

    supervisor_pid: int
    supervisor_started_ticks: int
    cgroup: str | None

    def go(self) -> None:
        """Let the workload start; to be called once the run is known to everybody."""
        ...

    def call_off(self) -> None:
        """End without the workload, if it was not let go yet."""
        ...

    def warn(self) -> int | None:
        """Send TERM to the first process if that needs no search; return CLOCK_MONOTONIC in ns."""
        ...

    def terminate(self) -> int:
        """Send TERM to every process not told yet; return CLOCK_MONOTONIC of the first, in ns."""
        ...

    def kill(self) -> int:
        """Kill every process; return CLOCK_MONOTONIC when it was said, in ns."""
        ...

    def look(self) -> None:
        """Look whether something has changed, where nobody tells us."""
        ...

    def close(self) -> None:
        """Let go of it; processes stay as they are."""
        ...


class Launcher(Protocol):
    """Starts runs, and finds those again that were started before."""

    simulated: bool

    @property
    def limitations(self) -> tuple[str, ...]:
        """What this node cannot do, and what that costs, one sentence each."""
        ...

    def prepare(self, order: Order) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Return the spec, to be written down first, and the limits that cannot be set.

        May block, and may raise OSError.
        """
        ...

    def start(self, spec: dict[str, Any], listener: Listener) -> Handle:
        """Start what waits for `go`; raise OSError if even that is not possible."""
        ...

    def adopt(self, spec: dict[str, Any], listener: Listener) -> Handle | Report | None:
        """Return the living run of a spec, or how it ended; None if that is unknown.

        Whatever is left of a run without supervisor is killed.
        """
        ...

    def forget(self, spec: dict[str, Any]) -> None:
        """Remove what a run that has ended leaves outside its directory."""
        ...
