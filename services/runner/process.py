"""Real processes: one supervisor per run is started, or found again after a restart."""

from __future__ import annotations

import fcntl
import os
import secrets
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

from gleaner import runtime
from services.runner import cgroup, supervisor
from services.runner.cgroup import Cgroups
from services.runner.handle import ProcessHandle, read_status, report_of
from services.runner.launcher import Handle, Listener, Order, Report
from services.runner.pids import open_pidfd, signal_all, with_token
from services.runner.supervisor import BELL, GO
from services.runner.supervisor.processes import start_ticks
from services.runner.timing import Timing

_SUPERVISOR = str(Path(supervisor.__file__).with_name("__main__.py"))
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
        ticks = start_ticks(pid) or 0
        return ProcessHandle(spec, listener, pid, ticks, watched, go=go_write, bell=bell_read)

    def adopt(self, spec: dict[str, Any], listener: Listener) -> Handle | Report | None:
        """See `Launcher.adopt`."""
        status = read_status(spec)
        if spec["boot_id"] != self._boot_id:
            # The clock of another boot says nothing now.
            status.pop("exited_ns", None)
            return report_of(status) if status.get("state") == "ended" else None
        pid, ticks = status.get("supervisor_pid"), status.get("supervisor_started")
        if pid is not None and ticks is not None:
            watched = open_pidfd(pid, ticks)
            if watched is not None:
                return ProcessHandle(spec, listener, pid, ticks, watched, go=None, bell=None)
            status = read_status(spec)
        if spec["cgroup"]:
            cgroup.kill(Path(spec["cgroup"]))
        else:
            signal_all(lambda: with_token(spec["token"]), signal.SIGKILL)
        return report_of(status) if status.get("state") == "ended" else None

    def forget(self, spec: dict[str, Any]) -> None:
        """See `Launcher.forget`."""
        if spec["cgroup"] and spec["boot_id"] == self._boot_id:
            cgroup.remove(Path(spec["cgroup"]))


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
                (os.POSIX_SPAWN_DUP2, high[0], GO),
                (os.POSIX_SPAWN_DUP2, high[1], BELL),
            ],
            setsid=True,
        )
    finally:
        for one in (null, *high):
            os.close(one)


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
