"""The processes of one run: what its supervisor says, and signals to all of them by pidfd."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

from services.runner import cgroup
from services.runner.launcher import Listener, Report
from services.runner.pids import in_session, signal_all, with_token
from services.runner.supervisor.processes import descendants, read_stat

logger = logging.getLogger(__name__)


class ProcessHandle:
    """The supervisor of one run and everything below it; see `Handle`."""

    def __init__(
        self,
        spec: dict[str, Any],
        listener: Listener,
        pid: int,
        ticks: int,
        watched: int,
        *,
        go: int | None,
        bell: int | None,
    ) -> None:
        self._spec = spec
        self._listener = listener
        self._watched: int | None = watched
        self._go = go
        self._bell = bell
        self._main: tuple[int, int] | None = None
        self._told: set[int] = set()
        self._supervisor_lives = True
        self._last: Report | None = None
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.TimerHandle | None = None
        self.supervisor_pid = pid
        self.supervisor_started_ticks = ticks
        self.cgroup: str | None = spec["cgroup_name"]
        self._loop.add_reader(watched, self._on_end)
        if bell is not None:
            os.set_blocking(bell, False)
            self._loop.add_reader(bell, self._on_bell)
        self._loop.call_soon(self.look)

    def go(self) -> None:
        """See `Handle.go`."""
        if self._go is not None:
            with contextlib.suppress(OSError):
                os.write(self._go, b"g")
        self.call_off()

    def call_off(self) -> None:
        """See `Handle.call_off`."""
        if self._go is not None:
            os.close(self._go)
            self._go = None

    def warn(self) -> int | None:
        """See `Handle.warn`."""
        if self._main is None or self._main[0] in self._told:
            return None
        # Its pidfd was opened when it was known to be ours: nothing stands before the signal.
        self._told.add(self._main[0])
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self._main[1], signal.SIGTERM)
        return time.monotonic_ns()

    def terminate(self) -> int:
        """See `Handle.terminate`."""
        first = self.warn()
        self._told |= signal_all(self._processes, signal.SIGTERM, but=self._told)
        return first or time.monotonic_ns()

    def kill(self) -> int:
        """See `Handle.kill`."""
        self._kill_all()
        return time.monotonic_ns()

    def look(self) -> None:
        """See `Handle.look`."""
        if self._watched is None:
            return
        report = report_of(read_status(self._spec))
        if report == self._last or report.state == "ended":
            # The end is said when the supervisor has ended, too.
            return
        self._last = report
        if report.pid is not None and self._main is None and report.exit_code is None:
            self._watch_main(report.pid)
        self._listener(report)

    def close(self) -> None:
        """See `Handle.close`."""
        self.call_off()
        if self._again is not None:
            self._again.cancel()
        self._close_bell()
        if self._main is not None:
            os.close(self._main[1])
            self._main = None
        if self._watched is not None:
            self._loop.remove_reader(self._watched)
            os.close(self._watched)
            self._watched = None

    def _watch_main(self, pid: int) -> None:
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(pid)
            # Still a child of the supervisor, so the number was not given to somebody else.
            fields = read_stat(pid)
            if fields and int(fields[1]) == self.supervisor_pid:
                self._main = (pid, pidfd)
            else:
                os.close(pidfd)

    def _processes(self) -> set[int]:
        if self._spec["cgroup"]:
            return set(cgroup.processes(Path(self._spec["cgroup"])))
        if self._supervisor_lives:
            return set(descendants(self.supervisor_pid))
        # They are init's children now; their session and their token are left to know them by.
        session = in_session(self._main[0]) if self._main else set()
        return session | with_token(self._spec["token"])

    def _kill_all(self) -> bool:
        """Kill whatever belongs to the run; return whether there was something."""
        if self._spec["cgroup"] and cgroup.kill(Path(self._spec["cgroup"])):
            return bool(self._processes())
        return bool(signal_all(self._processes, signal.SIGKILL))

    def _on_bell(self) -> None:
        assert self._bell is not None
        try:
            ended = not os.read(self._bell, 4096)
        except BlockingIOError:
            return
        if ended:
            self._close_bell()
        self.look()

    def _close_bell(self) -> None:
        if self._bell is not None:
            self._loop.remove_reader(self._bell)
            os.close(self._bell)
            self._bell = None

    def _on_end(self) -> None:
        """The supervisor has ended: with its last word, or before its time."""
        assert self._watched is not None
        self._loop.remove_reader(self._watched)
        self._supervisor_lives = False
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.supervisor_pid, os.WNOHANG)
        report = report_of(read_status(self._spec))
        if report.state != "ended":
            logger.error(
                "run %s: its supervisor (pid %d) is gone; what it held is killed",
                self._spec["run"],
                self.supervisor_pid,
            )
        self._finish(report)

    def _finish(self, report: Report) -> None:
        """Say the end once nothing is left; a supervisor that died first leaves something."""
        if report.state != "ended" and self._kill_all():
            self._again = self._loop.call_later(0.02, self._finish, report)
            return
        if report.state != "ended":
            report = Report(
                state="ended",
                pid=report.pid,
                started_at=report.started_at,
                exited_ns=time.monotonic_ns(),
                supervisor_gone=True,
            )
        self._last = report
        self._listener(report)


def read_status(spec: dict[str, Any]) -> dict[str, Any]:
    """Return what the supervisor of a run has written down; nothing where that is not readable."""
    try:
        found = json.loads(Path(spec["status"]).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def report_of(status: dict[str, Any]) -> Report:
    """Return what a supervisor's status says of its run."""
    names = Report.__dataclass_fields__.keys() - {"state", "supervisor_gone"}
    known = {name: status[name] for name in names if name in status}
    return Report(state=status.get("state", "ready"), **known)
