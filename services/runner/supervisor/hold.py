"""Hold one run: start the workload, keep its exit status, and do not let it outlive us.

The supervisor outlives the agent that started it, and it is a subreaper: whatever the workload
leaves behind, double forks included, becomes its child, so that it knows when no process is left.
When the agent's beat file grows old, nobody watches for people any more: TERM, then KILL, whatever
the grace.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time

from services.runner.supervisor import BELL, GO, NEVER_STARTED
from services.runner.supervisor.kernel import adopt_orphans, boot_seconds, call_us, write
from services.runner.supervisor.output import Pump
from services.runner.supervisor.processes import descendants, start_ticks
from services.runner.supervisor.start import start
from services.runner.supervisor.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BLOCKED = {
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
    signal.SIGCHLD,
}  # fmt: skip
_NICE = 10


def hold(path: str) -> None:
    """Hold the run of a spec file from `go` to its last process."""
    with open(path) as file:
        spec: dict[str, Any] = json.load(file)
    os.chdir("/")
    # Blocked, not ignored: the child must not lose a TERM that comes before its exec.
    signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    adopt_orphans()
    call_us("gleaner-run")
    _keep_only_our_files()
    _leave_the_agents_cgroup(spec)
    status = Status(spec["status"])
    status.say(state="ready", supervisor_pid=os.getpid(), supervisor_started=start_ticks("self"))
    last = _run(spec, status) if os.read(GO, 1) == b"g" else {"problem": NEVER_STARTED}
    if spec["cgroup"]:
        with contextlib.suppress(OSError):
            os.rmdir(spec["cgroup"])
    status.say(state="ended", **last)


def _run(spec: dict[str, Any], status: Status) -> dict[str, Any]:
    """Run the workload to its last process; return what is to be said of its end."""
    os.close(GO)
    reader, writer = os.pipe()
    pump = Pump(reader, spec)
    pid, problem = start(spec, writer)
    # When many runs are told to leave, the supervisor of the first that is gone must not hold up
    # those that have not heard of it yet. Only now: a user's process cannot take this back.
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    os.close(writer)
    if problem is not None:
        return {"problem": problem}
    status.say(state="running", pid=pid, started_at=time.time())
    pump.start()
    _wait_for_all(spec, status, pump, pid)
    exited_ns = time.monotonic_ns()
    pump.join(2)
    return {"exited_ns": exited_ns, **pump.report()}


def _keep_only_our_files() -> None:
    """What the agent happened to hand down would otherwise stay open in the workload."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > BELL:
            with contextlib.suppress(OSError):
                os.close(int(name))
    os.set_inheritable(GO, False)
    os.set_inheritable(BELL, False)


def _leave_the_agents_cgroup(spec: dict[str, Any]) -> None:
    """Whoever stops or restarts the agent by its cgroup must not take us along."""
    if spec["supervisors_cgroup"]:
        try:
            write(spec["supervisors_cgroup"] + "/cgroup.procs", "0")
        except OSError:
            return


def _wait_for_all(spec: dict[str, Any], status: Status, pump: Pump, main_pid: int) -> None:
    """Return when no process is left."""
    began, told = boot_seconds(), False
    report = pump.report()
    while _reap(status, main_pid):
        silent = boot_seconds() - _last_beat(spec["beat"], began)
        killing = silent > spec["kill_after"]
        if silent > spec["term_after"] and not told:
            told = True
            status.say(stopped_by=f"the agent was silent for {silent:.0f} s")
            for pid in descendants(os.getpid()):
                _kill(pid, signal.SIGTERM)
        if killing:
            _kill_all(spec)
        if pump.report() != report:
            report = pump.report()
            status.say(**report)
        signal.sigtimedwait({signal.SIGCHLD}, 0.05 if killing else spec["look_every"])


def _reap(status: Status, main_pid: int) -> bool:
    """Collect who has ended; return whether anybody is left."""
    while True:
        try:
            pid, code = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
        if pid == main_pid:
            number = os.waitstatus_to_exitcode(code)
            how = {"exit_code": number} if number >= 0 else {"exit_signal": -number}
            status.say(**how)


def _kill_all(spec: dict[str, Any]) -> None:
    if spec["cgroup"]:
        try:
            write(spec["cgroup"] + "/cgroup.kill", "1")
        except OSError:
            pass
        else:
            return
    for pid in descendants(os.getpid()):
        _kill(pid, signal.SIGKILL)


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        return


def _last_beat(path: str, otherwise: float) -> float:
    try:
        with open(path) as file:
            return float(file.read())
    except (OSError, ValueError):
        return otherwise
