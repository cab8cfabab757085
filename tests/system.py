"""The services as real child processes around a real broker, with real device files.

Device files are character devices with numbers that hardly anybody holds open (`/dev/full`,
`/dev/zero`…), under the names `nvidia0`… in a folder of our own; who opens one is a real process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

from gleaner.bus.connection import Connection
from gleaner.bus.interface import Delivery
from gleaner.bus.message import Message
from gleaner.bus.messages import (
    Availability,
    Blockers,
    GpuReading,
    GpuState,
    Inventory,
    People,
    Run,
    Telemetry,
)
from gleaner.bus.mqtt import MqttBus
from gleaner.bus.signature import load_or_make_key
from tests.builders import until
from tests.mosquitto import Mosquitto
from tests.nvml_stand_in import StandIn
from tests.python import python_for_others

ROOT = Path(__file__).parent.parent
DEVICE_NUMBERS = ((1, 7), (1, 5), (1, 8), (10, 200), (10, 229), (10, 237), (10, 183), (10, 232))
"""full, zero, random, tun, fuse, loop-control, hwrng, kvm."""

M = TypeVar("M", bound=Message)

WORKLOAD = """
import os, signal, sys, time
def say(word):
    at = time.monotonic_ns()
    with open(sys.argv[1], "a") as file:
        file.write(f"{word} {os.environ['GLEANER_RUN']} {at}\\n")
def leave(*_):
    say("term")
    os._exit(0)
signal.signal(signal.SIGTERM, leave)
held = [open(path, "rb", buffering=0) for path in sys.argv[2:]]
say("ready")
while True:
    signal.pause()
"""

STRANGER = """
import os, sys, time
held = {}
for line in sys.stdin:
    word, path = line.split()
    at = time.monotonic_ns()
    if word == "open":
        held[path] = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    else:
        os.close(held.pop(path))
    print(at, flush=True)
"""


NOBODYS_NUMBERS = tuple((195, 100 + number) for number in range(100))
"""NVIDIA's, without a driver behind them: nobody can open these, so nobody holds them."""


def make_devices(
    directory: Path, count: int, numbers_from: tuple[tuple[int, int], ...] = DEVICE_NUMBERS
) -> list[Path]:
    """Make `nvidia0`… that everybody may open."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, numbers in enumerate(numbers_from[:count]):
        path = directory / f"nvidia{index}"
        os.mknod(path, 0o20666, os.makedev(*numbers))
        path.chmod(0o666)
        paths.append(path)
    return paths


class Stranger:
    """Somebody else's process that opens and closes devices when told."""

    def __init__(self, user_id: int = 65534, environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [python_for_others(), "-c", STRANGER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            user=user_id if os.geteuid() == 0 else None,
            group=65534 if os.geteuid() == 0 else None,
            env=environment,
            cwd="/",
        )

    def _tell(self, word: str, path: Path) -> int:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{word} {path}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def open(self, path: Path) -> int:
        """Open a device; return CLOCK_MONOTONIC just before."""
        return self._tell("open", path)

    def close(self, path: Path) -> int:
        """Close it; return CLOCK_MONOTONIC just before."""
        return self._tell("close", path)

    def end(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()


class System:
    """Broker, node (in one process or `apart`), scheduler, and more when asked."""

    def __init__(
        self,
        directory: Path,
        *,
        gpus: int = 2,
        apart: bool = False,
        services: tuple[str, ...] = ("scheduler",),
        gpu: str = "",
        people: str = "enabled = false",
        node: str = "",
        scheduler: str = "gpu_idle_seconds = 0\nbackoff_seconds = 0.01",
        workloads: str | None = None,
        more: str = "",
        up: bool = False,
        stand_in: StandIn | None = None,
        device_numbers: tuple[tuple[int, int], ...] = DEVICE_NUMBERS,
        device_directory: Path | None = None,
        environment: dict[str, str] | None = None,
        keeps_logs: bool = False,
    ) -> None:
        """Store and write the configuration; `device_directory`: there are real GPUs."""
        self.directory = directory
        self.keeps_logs = keeps_logs
        self.up = up
        self.stand_in = stand_in
        directory.chmod(0o755)
        self.environment = (stand_in.environment() if stand_in else {}) | (environment or {})
        self.devices = (
            [] if device_directory else make_devices(directory / "dev", gpus, device_numbers)
        )
        self.told = directory / "told"
        self.told.touch()
        self.told.chmod(0o666)
        self.program = directory / "workload.py"
        self.program.write_text(WORKLOAD)
        self.broker = Mosquitto(directory)
        key = load_or_make_key(directory / "data" / "keys" / "scheduler.key")
        self.configuration = directory / "gleaner.toml"
        self.configuration.write_text(
            f"""
[bus]
url = "{self.broker.url}"
[node]
id = "n1"
data_directory = "{directory}/data"
scheduler_keys = ["{key.public}"]
{node}
[node.gpu]
source = "{"nvml" if stand_in or device_directory else "device-files"}"
device_directory = "{device_directory or directory / "dev"}"
{gpu}
[node.people]
{people}
[scheduler]
{scheduler}
{more}
{self.default_workload() if workloads is None else workloads}
"""
        )
        node_services = ("collector", "runner") if apart else ("node",)
        self.names = ("up",) if up else (*services, *node_services)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ways: dict[str, str] = {}
        """Services that reach the broker another way: by name, its URL there."""
        self.bus = MqttBus(Connection(url=self.broker.url), "test", "system")
        self.last: dict[str, Message] = {}
        self.heard: list[Message] = []
        self._task: asyncio.Task[None] | None = None

    def default_workload(self) -> str:
        """Return a catalogue of one filler per GPU, which writes down when it is told to leave."""
        return f"""
[[workload]]
name = "fold"
command = "{python_for_others()} {self.program} {self.told}"
directory = "/"
user = "nobody"
grace_seconds = 5
"""

    async def __aenter__(self) -> Self:
        if not self.up:
            self.broker.start()
        for kind in (GpuState, Inventory, People, Run, Blockers, Availability, Telemetry):
            self.bus.subscribe(kind, self._take)
        self._task = asyncio.create_task(self.bus.run())
        for name in self.names:
            self.start(name)
        await until(lambda: self.bus.connected)
        return self

    async def __aexit__(self, *_: object) -> None:
        for name in reversed(self.names):
            if self.processes[name].poll() is None:
                self.stop(name)
        assert self._task
        self._task.cancel()
        await asyncio.wait([self._task])
        self.broker.stop()

    def start(self, name: str) -> None:
        """Start one service, or `gleaner up`, as a child process."""
        what = ["gleaner.cli", "up"] if name == "up" else [f"services.{name}"]
        with self.log_file(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", *what, "--config", str(self.configuration)],
                env=os.environ
                | {"PYTHONPATH": str(ROOT)}
                | self.environment
                | ({"GLEANER_BUS__URL": self.ways[name]} if name in self.ways else {}),
                cwd=self.directory,
                stderr=log if self.keeps_logs else None,
            )

    def log_file(self, name: str) -> Path:
        """Return where a service's log goes if logs are kept."""
        return self.directory / f"{name}.log" if self.keeps_logs else Path(os.devnull)

    def log(self, name: str) -> str:
        """Return what a service logged so far."""
        return self.log_file(name).read_text(errors="replace")

    def stop(self, name: str, number: int = signal.SIGTERM) -> int:
        """End a service; return its exit status."""
        process = self.processes[name]
        process.send_signal(number)
        return process.wait(40)

    def _take(self, delivery: Delivery) -> None:
        if delivery.message is None:
            self.last = {
                topic: message
                for topic, message in self.last.items()
                if (type(message), message.levels()) != (delivery.message_type, delivery.levels)
            }
        else:
            self.last[delivery.message.topic] = delivery.message
            self.heard.append(delivery.message)

    def facts(self, kind: type[M]) -> list[M]:
        """Return the retained facts of a kind as they stand."""
        return [message for message in self.last.values() if isinstance(message, kind)]

    def said(self, kind: type[M]) -> list[M]:
        """Return everything of a kind that was ever heard."""
        return [message for message in self.heard if isinstance(message, kind)]

    def reading(self, index: int) -> GpuReading | None:
        """Return the last readings of one GPU."""
        found = (gpu for fact in self.facts(Telemetry) for gpu in fact.gpus if gpu.index == index)
        return next(found, None)

    def runs(self) -> list[Run]:
        """Return the runs that are running, as far as their workloads are ready for TERM."""
        return [
            run
            for run in self.facts(Run)
            if run.state == "running" and self._told("ready", run.run) is not None
        ]

    def gpu(self, index: int) -> GpuState | None:
        """Return the state of one GPU."""
        return next((gpu for gpu in self.facts(GpuState) if gpu.index == index), None)

    def run_on(self, index: int) -> Run | None:
        """Return the run that runs on one GPU."""
        gpu = self.gpu(index)
        found = (run for run in self.runs() if gpu and gpu.gpu in run.gpus)
        return next(found, None)

    async def until(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        """Wait for a condition on the facts."""
        await until(condition, seconds)

    def told_to_leave(self, run: str) -> int | None:
        """Return CLOCK_MONOTONIC at which a run's workload was sent TERM, or None."""
        return self._told("term", run)

    def _told(self, word: str, run: str) -> int | None:
        for line in self.told.read_text().splitlines():
            said, name, at = line.split()
            if (said, name) == (word, run):
                return int(at)
        return None


def processes_with(text: str) -> dict[int, str]:
    """Return pid to command line of all processes that have a text in theirs; zombies are gone."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if text in line and "\nState:\tZ" not in (entry / "status").read_text():
                    found[int(entry.name)] = line
    return found


def environment_of(pid: int) -> dict[str, str]:
    """Return the environment a process was started with; empty if it is gone."""
    try:
        pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    except OSError:
        return {}
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def crowd(processes: int, files: int) -> list[subprocess.Popen[bytes]]:
    """Start processes that do nothing and hold files open, as a busy machine has them."""
    # Forked from a few parents: 500 interpreters would need 5 GB.
    per_parent = 100
    code = (
        "import os,signal\n"
        "os.setpgid(0,0)\n"
        f"for _ in range({per_parent - 1}):\n"
        "    if os.fork() == 0: break\n"
        f"held=[open('/etc/passwd') for _ in range({files})]\n"
        "os.write(1, b'.')\n"
        "signal.pause()\n"
    )
    parents = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        for _ in range(0, processes, per_parent)
    ]
    for parent in parents:
        assert parent.stdout
        parent.stdout.read(per_parent)
    return parents


def disperse(parents: list[subprocess.Popen[bytes]]) -> None:
    """End a crowd."""
    for parent in parents:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()
        assert parent.stdout
        parent.stdout.close()
