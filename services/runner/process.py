"""Real processes: one supervisor per run, found again after a restart, signalled by pidfd."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import secrets
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import Any

from gleaner import runtime
from services.runner import cgroup, supervisor
from services.runner.cgroup import Cgroups
from services.runner.launcher import Handle, Listener, Order, Report
from services.runner.pids import in_session, open_pidfd, signal_all, with_token
from services.runner.timing import Timing

logger = logging.getLogger(__name__)

_SUPERVISOR = supervisor.__file__
_NO_CGROUPS = (
    "no cgroup v2 may be used here: a run's processes are found by descent and token, "
    "which costs a scan of all processes, and there are no limits"
)


class ProcessLauncher:
    """See `Launcher`."""

    simulated = False

    def __init__(self, beat: Path, cgroups: Cgroups | None, timing: Timing) -> None:
        self._beat = beat
        self._cgroups = cgroups
        self._timing = timing
        self._boot_id = runtime.boot_id()

    @property
    def limitations(self) -> tuple[str, ...]:
        """See `Launcher.limitations`."""
        return () if self._cgroups else (_NO_CGROUPS,)

    def prepare(self, order: Order) -> tuple[dict[str, Any], tuple[str, ...]]:
        """See `Launcher.prepare`."""
        entry, account = order.entry, order.account
        group, not_set = None, _wanted_limits(order)
        if self._cgroups is not None:
            # An id may come again after a lost disk, beside what is left of the first one.
            group = self._cgroups.make(f"{order.run}-{secrets.token_hex(3)}")
            not_set = self._cgroups.limit(group, entry)
        if entry.nice < os.getpriority(os.PRIO_PROCESS, 0) and os.geteuid() != 0:
            not_set += (f"nice {entry.nice}: only root may raise a priority",)
        spec = {
            "run": order.run,
            "entry": entry.name,
            "boot_id": self._boot_id,
            "status": str(order.directory / "status.json"),
            "argv": shlex.split(entry.command),
            "directory": os.path.abspath(entry.directory),
            "environment": order.environment,
            "token": order.environment["GLEANER_RUN_TOKEN"],
            "account": account
            and {"name": account.name, "uid": account.uid, "gid": account.gid,
                 "groups": account.groups},
            "nice": entry.nice,
            "io_class": entry.io_class,
            "cgroup": group and str(group),
            "cgroup_name": group and self._cgroups and self._cgroups.name(group),
            "supervisors_cgroup": self._cgroups and str(self._cgroups.supervisors()),
            "log": entry.log
            and {"path": os.path.abspath(entry.log), "max_bytes": entry.log_max_bytes,
                 "keep": entry.log_keep, "owner": account and (account.uid, account.gid)},
            "prefix": f"{entry.name} {order.run}: ",
            "beat": str(self._beat),
            "look_every": min(1.0, self._timing.dead_man_term / 5),
            "term_after": self._timing.dead_man_term,
            "kill_after": self._timing.dead_man_kill,
        }  # fmt: skip
        return spec, not_set

    def start(self, spec: dict[str, Any], listener: Listener) -> Handle:
        """See `Launcher.start`."""
        go_read, go_write = os.pipe()
        bell_read, bell_write = os.pipe()
        try:
            pid = _spawn(Path(spec["status"]).with_name("spec.json"), go_read, bell_write)
            watched = os.pidfd_open(pid)
        except OSError:
            os.close(go_write)
            os.close(bell_read)
            raise
        finally:
            os.close(go_read)
            os.close(bell_write)
        ticks = supervisor.start_ticks(pid) or 0
        return ProcessHandle(spec, listener, pid, ticks, watched, go=go_write, bell=bell_read)

    def adopt(self, spec: dict[str, Any], listener: Listener) -> Handle | Report | None:
        """See `Launcher.adopt`."""
        status = _read_status(spec)
        if spec["boot_id"] != self._boot_id:
            # The clock of another boot says nothing now.
            status.pop("exited_ns", None)
            return _report(status) if status.get("state") == "ended" else None
        pid, ticks = status.get("supervisor_pid"), status.get("supervisor_started")
        if pid is not None and ticks is not None:
            watched = open_pidfd(pid, ticks)
            if watched is not None:
                return ProcessHandle(spec, listener, pid, ticks, watched, go=None, bell=None)
            status = _read_status(spec)
        if spec["cgroup"]:
            cgroup.kill(Path(spec["cgroup"]))
        else:
            signal_all(lambda: with_token(spec["token"]), signal.SIGKILL)
        return _report(status) if status.get("state") == "ended" else None

    def forget(self, spec: dict[str, Any]) -> None:
        """See `Launcher.forget`."""
        if spec["cgroup"] and spec["boot_id"] == self._boot_id:
            cgroup.remove(Path(spec["cgroup"]))


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
        report = _report(_read_status(self._spec))
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
            fields = supervisor.read_stat(pid)
            if fields and int(fields[1]) == self.supervisor_pid:
                self._main = (pid, pidfd)
            else:
                os.close(pidfd)

    def _processes(self) -> set[int]:
        if self._spec["cgroup"]:
            return set(cgroup.processes(Path(self._spec["cgroup"])))
        if self._supervisor_lives:
            return set(supervisor.descendants(self.supervisor_pid))
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
        report = _report(_read_status(self._spec))
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


def _spawn(spec: Path, go: int, bell: int) -> int:
    null = os.open(os.devnull, os.O_RDWR)
    # Above the numbers that the child gets, so that no dup2 closes what a later one needs.
    high = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 10) for one in (go, bell)]
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", _SUPERVISOR, str(spec)],
            {"LC_ALL": "C.UTF-8", "PATH": os.environ.get("PATH", os.defpath)},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null, 0),
                (os.POSIX_SPAWN_DUP2, null, 1),
                (os.POSIX_SPAWN_DUP2, high[0], supervisor.GO),
                (os.POSIX_SPAWN_DUP2, high[1], supervisor.BELL),
            ],
            setsid=True,
        )
    finally:
        for one in (null, *high):
            os.close(one)


def _read_status(spec: dict[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(Path(spec["status"]).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _report(status: dict[str, Any]) -> Report:
    names = Report.__dataclass_fields__.keys() - {"state", "supervisor_gone"}
    known = {name: status[name] for name in names if name in status}
    return Report(state=status.get("state", "ready"), **known)


def _wanted_limits(order: Order) -> tuple[str, ...]:
    """Return the limits that need a cgroup, each with the reason why it is not set."""
    entry = order.entry
    limits = {
        "cpu weight": entry.cpu_weight,
        "cpu limit": entry.cpu_max_percent,
        "memory limit": entry.memory_max_bytes,
        "process limit": entry.processes_max,
    }
    return tuple(
        f"{name}: no cgroup v2 may be used here" for name, value in limits.items() if value
    )
