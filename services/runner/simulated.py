"""A launcher without processes, for simulated nodes: same manners, made-up pids."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from typing import Any

from services.runner.launcher import NEVER_STARTED, Handle, Listener, Order, Report

_pids = itertools.count(5_000_000)
"""Above any real pid (the kernel's limit is 4,194,304)."""
_TAKES_SECONDS = 0.02


class SimulatedHandle:
    """A run that does nothing until it is told to end."""

    cgroup: str | None = None
    supervisor_started_ticks = 0

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._report = Report(state="ready")
        self._pending: asyncio.TimerHandle | None = None
        self.supervisor_pid = next(_pids)

    def go(self) -> None:
        """See `Handle.go`."""
        running = Report(state="running", pid=next(_pids), started_at=time.time())
        self._later(0, running)

    def call_off(self) -> None:
        """See `Handle.call_off`."""
        if self._report.state == "ready":
            self._later(0, Report(state="ended", problem=NEVER_STARTED))

    def warn(self) -> int | None:
        """See `Handle.warn`."""
        return self.terminate()

    def terminate(self) -> int:
        """See `Handle.terminate`."""
        self._end(signal.SIGTERM, _TAKES_SECONDS)
        return time.monotonic_ns()

    def kill(self) -> int:
        """See `Handle.kill`."""
        self._end(signal.SIGKILL, 0)
        return time.monotonic_ns()

    def look(self) -> None:
        """See `Handle.look`."""

    def close(self) -> None:
        """See `Handle.close`."""
        if self._pending is not None:
            self._pending.cancel()

    def _end(self, number: signal.Signals, seconds: float) -> None:
        running = self._report
        self._later(
            seconds,
            Report(
                state="ended",
                pid=running.pid,
                started_at=running.started_at,
                exit_signal=int(number),
                exited_ns=time.monotonic_ns() + int(seconds * 1e9),
            ),
        )

    def _later(self, seconds: float, report: Report) -> None:
        if self._report.state == "ended":
            return
        if self._pending is not None:
            self._pending.cancel()
        self._pending = self._loop.call_later(seconds, self._say, report)

    def _say(self, report: Report) -> None:
        self._report = report
        self._listener(report)


class SimulatedLauncher:
    """See `Launcher`; nothing survives the process it lives in."""

    simulated = True
    limitations = ("runs of this node are simulated: no process is started",)

    def prepare(self, order: Order) -> tuple[dict[str, Any], tuple[str, ...]]:
        """See `Launcher.prepare`."""
        return {"run": order.run, "entry": order.entry.name}, ()

    def start(self, spec: dict[str, Any], listener: Listener) -> Handle:  # noqa: ARG002
        """See `Launcher.start`."""
        return SimulatedHandle(listener)

    def adopt(self, spec: dict[str, Any], listener: Listener) -> Handle | Report | None:  # noqa: ARG002
        """See `Launcher.adopt`."""
        return None

    def forget(self, spec: dict[str, Any]) -> None:
        """See `Launcher.forget`."""
