"""Holds one run: starts the workload, keeps its exit status, and does not let it outlive us.

Started as `python -I -S supervisor.py SPEC`, with nothing but the standard library, because one of
these stays in memory for every run. It outlives the agent that started it, and it is a subreaper:
whatever the workload leaves behind, double forks included, becomes its child, so that it knows
when no process is left. When the agent's beat file grows old, nobody watches for people any more:
TERM, then KILL, whatever the grace.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import stat
import sys
import threading
import time
from typing import Any

GO = 3
"""The agent writes one byte here once the run is known to everybody; end of file means: do not."""
BELL = 4
"""We write one byte here whenever the status has changed."""

NEVER_STARTED = "it was never started"

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_IOPRIO = {"best-effort": 2 << 13 | 7, "idle": 3 << 13}
_BLOCKED = {
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
    signal.SIGCHLD,
}  # fmt: skip
_NICE = 10
_CHUNK = 65536
_LINE = 8192
_STATUS_BYTES = 4096

libc = ctypes.CDLL(None, use_errno=True)


def main(path: str) -> None:
    """Hold the run of a spec file from `go` to its last process."""
    with open(path) as file:
        spec: dict[str, Any] = json.load(file)
    os.chdir("/")
    # Blocked, not ignored: the child must not lose a TERM that comes before its exec.
    signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(_PR_SET_NAME, b"gleaner-run", 0, 0, 0)
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
    pid, problem = _start(spec, writer)
    # When many runs are told to leave, the supervisor of the first that is gone must not hold up
    # those that have not heard of it yet. Only now: a user's process cannot take this back.
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    os.close(writer)
    if problem is not None:
        return {"problem": problem}
    status.say(state="running", pid=pid, started_at=time.time())
    pump.start()
    _hold(spec, status, pump, pid)
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
            _write(spec["supervisors_cgroup"] + "/cgroup.procs", "0")
        except OSError:
            return


def _hold(spec: dict[str, Any], status: Status, pump: Pump, main_pid: int) -> None:
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
            _write(spec["cgroup"] + "/cgroup.kill", "1")
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


def _start(spec: dict[str, Any], output: int) -> tuple[int, str | None]:
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
        _write(spec["cgroup"] + "/cgroup.procs", "0")
    os.setsid()
    _yield_to_others(spec)
    account = spec["account"]
    if account:
        step[0] = f"cannot become user {account['name']}"
        os.setgroups(account["groups"])
        os.setgid(account["gid"])
        os.setuid(account["uid"])
    # Only now: a change of user clears it.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
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
    number = _IOPRIO_SET.get(os.uname().machine)
    if number is not None:
        libc.syscall(number, 1, 0, _IOPRIO[spec["io_class"]])
    with contextlib.suppress(OSError):
        # When memory is short, the idle-time workload goes first and not a person's work.
        _write("/proc/self/oom_score_adj", "1000")


class Status:
    """What we know, in a file that is replaced as a whole."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._known: dict[str, Any] = {}

    def say(self, **news: Any) -> None:
        """Add to the status, and ring the bell."""
        self._known.update(news)
        text = json.dumps(self._known).ljust(_STATUS_BYTES).encode()
        temporary = self._path + ".new"
        try:
            _write(temporary, text)
            os.replace(temporary, self._path)
        except OSError:
            self._overwrite(text)
        try:
            os.write(BELL, b"!")
        except OSError:
            return

    def _overwrite(self, text: bytes) -> None:
        """On a full disk there is still the room of the old one, which has the same size."""
        try:
            handle = os.open(self._path, os.O_WRONLY)
            try:
                os.pwrite(handle, text, 0)
            finally:
                os.close(handle)
        except OSError:
            return


class Pump(threading.Thread):
    """Carries output to the log, in a thread of its own, since a disk may hang."""

    def __init__(self, source: int, spec: dict[str, Any]) -> None:
        super().__init__(name="pump", daemon=True)
        self._source = source
        self._sink: LogFile | Standard = (
            LogFile(spec["log"]) if spec["log"] else Standard(spec["prefix"])
        )
        self._dropped = 0
        self._problem: str | None = None

    def report(self) -> dict[str, Any]:
        """Return what was lost of the output, and why."""
        return {"output_dropped_bytes": self._dropped, "output_problem": self._problem}

    def run(self) -> None:
        """Read until nobody holds the other end; never stop because nobody takes it."""
        # A log is there from the start on, also of who says nothing for hours.
        self._pass_on(b"")
        while chunk := os.read(self._source, _CHUNK):
            self._pass_on(chunk)
        with contextlib.suppress(OSError):
            self._sink.finish()

    def _pass_on(self, chunk: bytes) -> None:
        try:
            self._sink.write(chunk)
            self._problem = None
        except OSError as error:
            self._dropped += len(chunk)
            self._problem = error.strerror


class LogFile:
    """An appended file, rotated by size; several runs may share it."""

    def __init__(self, log: dict[str, Any]) -> None:
        self._log = log
        self._handle: int | None = None

    def write(self, chunk: bytes) -> None:
        """Append; OSError if that cannot be."""
        if self._handle is None or self._was_moved():
            self._open()
        assert self._handle is not None
        size = os.fstat(self._handle).st_size
        if size and size + len(chunk) > self._log["max_bytes"]:
            self._rotate()
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self._handle, rest) :]

    def finish(self) -> None:
        """Nothing is held back."""

    def _open(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        # The folder may belong to the workload's user, and we may be root: no link is followed,
        # and nothing is given to that user but what we have made.
        path, flags = self._log["path"], os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            self._handle = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o640)
        except FileExistsError:
            self._handle = os.open(path, flags)
            return
        if self._log["owner"]:
            os.fchown(self._handle, *self._log["owner"])

    def _was_moved(self) -> bool:
        assert self._handle is not None
        ours = os.fstat(self._handle)
        try:
            there = os.stat(self._log["path"], follow_symlinks=False)
        except FileNotFoundError:
            return True
        return (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino)

    def _rotate(self) -> None:
        """Make room, once: whoever shares the file waits for the lock and finds it moved."""
        assert self._handle is not None
        if not stat.S_ISREG(os.fstat(self._handle).st_mode):
            return
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        if not self._was_moved():
            path, keep = self._log["path"], self._log["keep"]
            for number in range(keep, 0, -1):
                older = f"{path}.{number - 1}" if number > 1 else path
                if os.path.lexists(older):
                    os.replace(older, f"{path}.{number}")
            if keep == 0:
                os.unlink(path)
        self._open()


class Standard:
    """The agent's standard error, line by line with a prefix; nothing where that is gone."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()
        self._line = b""

    def write(self, chunk: bytes) -> None:
        """Write whole lines; never wait longer than a second for whoever reads them."""
        lines = (self._line + chunk).split(b"\n")
        self._line = lines.pop()
        if len(self._line) > _LINE:
            lines.append(self._line)
            self._line = b""
        for line in lines:
            text = self._prefix + line + b"\n"
            for start in range(0, len(text), select.PIPE_BUF):
                if not select.select([], [2], [], 1)[1]:
                    raise BlockingIOError(0, "nobody reads it")
                os.write(2, text[start : start + select.PIPE_BUF])

    def finish(self) -> None:
        """Write the last line, which has no end."""
        if self._line:
            self.write(b"\n")


def boot_seconds() -> float:
    """Return the seconds since boot, time asleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def read_stat(pid: int | str) -> list[str] | None:
    """Return /proc/PID/stat from the state on (parent second, start ticks twentieth), or None."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read().decode(errors="replace")
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def start_ticks(pid: int | str) -> int | None:
    """Return when a process started, in clock ticks since boot; with its pid, an identity."""
    fields = read_stat(pid)
    return int(fields[19]) if fields else None


def descendants(ancestor: int) -> list[int]:
    """Return all living processes below one, by one look at the process table."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        fields = read_stat(name) if name.isdigit() else None
        if fields and fields[0] != "Z":
            children.setdefault(int(fields[1]), []).append(int(name))
    found, parents = [], [ancestor]
    while parents:
        below = children.pop(parents.pop(), [])
        found += below
        parents += below
    return found


def _write(path: str, text: str | bytes) -> None:
    with open(path, "wb") as file:
        file.write(text.encode() if isinstance(text, str) else text)


if __name__ == "__main__":
    main(sys.argv[1])
