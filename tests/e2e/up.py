"""A whole system, started by `gleaner up` at a terminal of its own, and all its processes."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from gleaner.cli.machine.broker import free_port

CONFIGURATION = """\
[bus]
url = "mqtt://127.0.0.1:{bus_port}"
[web]
listen = "127.0.0.1:{web_port}"
[node]
id = "n1"
data_directory = "{directory}/data"
[node.gpu]
device_directory = "{directory}/dev"
[node.people]
enabled = false
[scheduler]
gpu_idle_seconds = 1
[[workload]]
name = "w"
command = "sleep 86399"
grace_seconds = 2
"""


class Up:
    """`gleaner up`, its terminal and what it said."""

    def __init__(self, directory: Path, *, with_gpu: bool = True, umask: int = -1) -> None:
        self.directory = directory
        self.umask = umask
        self.bus_port, self.web_port = free_port(), free_port()
        self.mark = f"UP_TEST_MARK={uuid.uuid4().hex}"
        self.config = directory / "gleaner.toml"
        self.config.write_text(
            CONFIGURATION.format(
                directory=directory, bus_port=self.bus_port, web_port=self.web_port
            )
        )
        (directory / "dev").mkdir(exist_ok=True)
        if with_gpu:
            # A number that no driver has, so that nobody else's process holds it.
            os.mknod(directory / "dev" / "nvidia0", 0o20666, os.makedev(195, 200))
        self.lines: list[str] = []

    def __enter__(self) -> Self:
        self._terminal, theirs = os.openpty()
        name, value = self.mark.split("=")
        self.started = time.monotonic()

        def take_terminal() -> None:
            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [sys.executable, "-m", "gleaner.cli", "up", "--config", str(self.config)],
            env={**os.environ, name: value},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            umask=self.umask,
            preexec_fn=take_terminal,
        )
        os.close(theirs)
        self._reading = threading.Thread(target=self._read)
        self._reading.start()
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.pids():
            with_pid(pid, signal.SIGKILL)
        self.process.wait(10)
        self._reading.join()
        os.close(self._terminal)

    def _read(self) -> None:
        text = b""
        while True:
            try:
                more = os.read(self._terminal, 4096)
            except OSError:  # the other side is gone
                return
            text += more
            *lines, text = text.split(b"\n")
            self.lines += [line.decode(errors="replace").strip() for line in lines]

    def ctrl_c(self) -> None:
        """Press Ctrl-C at the terminal."""
        os.write(self._terminal, b"\x03")

    def pids(self) -> set[int]:
        """Return all processes of this system, wherever they ended up."""
        found = set()
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    environment = Path("/proc", entry, "environ").read_bytes()
                except OSError:
                    continue
                if self.mark.encode() in environment.split(b"\0"):
                    found.add(int(entry))
        return found

    def child(self, name: str) -> int | None:
        """Return the pid of a direct child: broker, node, scheduler, recorder or web."""
        word = "mosquitto" if name == "broker" else f"services.{name}"
        children = [pid for pid in self.pids() if _parent(pid) == self.process.pid]
        return next((pid for pid in children if word in command(pid)), None)

    def workloads(self) -> list[int]:
        """Return the running workloads."""
        return [pid for pid in self.pids() if command(pid) == "sleep 86399"]

    def page(self, path: str = "/healthz") -> bytes | None:
        """Return what the page's server answers, or None."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.web_port}{path}", timeout=2) as it:
                return bytes(it.read())
        except OSError:
            return None

    def says(self, text: str) -> bool:
        """Whether a line has this in it."""
        return any(text in line for line in self.lines)

    def wait(self, condition: Callable[[], Any], seconds: float, what: str) -> float:
        """Wait for a condition; return how long it took."""
        started = time.monotonic()
        while not condition():
            took = time.monotonic() - started
            assert took < seconds, "\n".join([f"{what}: not within {seconds} s", *self.lines])
            time.sleep(0.05)
        return time.monotonic() - started


def command(pid: int) -> str:
    """Return a process's command line; empty when it is gone."""
    try:
        words = Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return b" ".join(words).decode(errors="replace").strip()


def with_pid(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _parent(pid: int) -> int | None:
    try:
        text = Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[1])
