"""From a fork to the workload: its cgroup, priorities, user, folder and output, then exec."""

from __future__ import annotations

import contextlib
import os
import signal

# os.execvpe imports it, too late for a user who may not read our Python.
import warnings  # noqa: F401

from services.runner.supervisor.kernel import die_with_parent, set_io_class, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def start(spec: dict[str, Any], output: int) -> tuple[int, str | None]:
    """Start the workload; return its pid, and why it could not start or None."""
    reader, writer = os.pipe()
    supervisor = os.getpid()
    pid = os.fork()
    if pid == 0:
        step = ["cannot prepare"]
        try:
            _become(spec, output, supervisor, step)
        except BaseException as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            os.write(writer, f"{step[0]}: {why}".encode()[:1000])
        os._exit(127)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        problem = file.read().decode(errors="replace")
    if problem:
        os.waitpid(pid, 0)
    return pid, problem or None


def _become(spec: dict[str, Any], output: int, supervisor: int, step: list[str]) -> None:
    """Turn the forked child into the workload; `step` names what is tried."""
    if spec["cgroup"]:
        step[0] = f"cannot enter cgroup {spec['cgroup']}"
        write(spec["cgroup"] + "/cgroup.procs", "0")
    os.setsid()
    _yield_to_others(spec)
    account = spec["account"]
    if account:
        step[0] = f"cannot become user {account['name']}"
        os.setgroups(account["groups"])
        os.setgid(account["gid"])
        os.setuid(account["uid"])
    # Only now: a change of user clears it.
    die_with_parent()
    if os.getppid() != supervisor:
        os._exit(127)
    os.umask(0o022)
    step[0] = f"cannot enter directory {spec['directory']}"
    os.chdir(spec["directory"])
    step[0] = "cannot connect its output"
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    step[0] = f"cannot run {spec['argv'][0]}"
    for number in range(1, signal.NSIG):
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            continue
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execvpe(spec["argv"][0], spec["argv"], spec["environment"])  # noqa: S606


def _yield_to_others(spec: dict[str, Any]) -> None:
    """Lower our priorities; what a kernel refuses here was said by the agent before."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, spec["nice"])
    set_io_class(spec["io_class"])
    with contextlib.suppress(OSError):
        # When memory is short, the idle-time workload goes first and not a person's work.
        write("/proc/self/oom_score_adj", "1000")
