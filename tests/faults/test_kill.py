"""kill -9 of any one process of `gleaner up`, while somebody takes a GPU.

Whatever died: within 35 s no workload runs where somebody is, nothing ever runs twice on a GPU,
what died is back within 5 s, work goes on afterwards, and Ctrl-C leaves no process behind.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gleaner.cli.machine.broker import free_port
from tests.nvml_stand_in import StandIn
from tests.system import Stranger, System, environment_of, processes_with

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

SERVICES = (
    "mosquitto",
    "services.node",
    "services.scheduler",
    "services.recorder",
    "services.web",
    "nvml_child.py",
)
RUN_PARTS = ("runner/supervisor", "workload.py")


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    somebody = Stranger()
    yield somebody
    somebody.end()


class Watch:
    """Looks at the process table all the time: which workloads live on which GPU."""

    def __init__(self, system: System) -> None:
        self._program = str(system.program)
        self.doubled: list[dict[str, list[int]]] = []

    def workloads(self) -> dict[str, list[int]]:
        """Return GPU to pids of live workloads."""
        found: dict[str, list[int]] = {}
        for pid, line in processes_with(self._program).items():
            environment = environment_of(pid)
            if "runner/supervisor" not in line and "GLEANER_RUN" in environment:
                for gpu in environment["GLEANER_GPUS"].split(","):
                    found.setdefault(gpu, []).append(pid)
        return found

    async def look(self) -> None:
        """Look for two workloads on one GPU until cancelled."""
        while True:
            doubled = {gpu: pids for gpu, pids in self.workloads().items() if len(pids) > 1}
            if doubled:
                self.doubled.append(doubled)
            await asyncio.sleep(0.05)


@asynccontextmanager
async def running(directory: Path, library: Path) -> AsyncIterator[tuple[System, Watch]]:
    """Start `gleaner up`, wait for a run on both GPUs, watch; at the end nothing may be left."""
    system = System(
        directory,
        up=True,
        stand_in=driver(directory, library),
        scheduler="gpu_idle_seconds = 1\nbackoff_seconds = 0.5",
        more=f'[web]\nlisten = "127.0.0.1:{free_port()}"',
    )
    watch = Watch(system)
    async with system:
        await system.until(lambda: len(system.runs()) == 2, 40)
        looking = asyncio.create_task(watch.look())
        yield system, watch
        looking.cancel()
        system.processes["up"].send_signal(signal.SIGINT)
        await system.until(lambda: system.processes["up"].poll() is not None, 40)
    assert left_of(directory) == {}
    assert watch.doubled == []


def driver(directory: Path, library: Path) -> StandIn:
    """Return a driver with two idle GPUs."""
    stand_in = StandIn(library=library, file=directory / "nvml")
    stand_in.write()
    return stand_in


def left_of(directory: Path) -> dict[int, str]:
    """Return what is left of a system; who asks the driver does not name it, but can be told."""
    children = {
        pid: line
        for pid, line in processes_with("nvml_child.py").items()
        if environment_of(pid).get("NVML_STAND_IN", "").startswith(str(directory))
    }
    return processes_with(str(directory)) | children


def find(system: System, name: str) -> int:
    """Return the pid of the one process of this system that has a name in its command line."""
    up = system.processes["up"].pid
    pids = processes_with(str(system.directory)) | {
        pid: line for pid, line in processes_with(name).items() if environment_of(pid)
    }
    fitting = [
        pid for pid, line in pids.items() if name in line and pid != up and descends(pid, up, name)
    ]
    assert fitting, f"no process {name} among {pids}"
    return fitting[0]


def descends(pid: int, ancestor: int, name: str) -> bool:
    """Return whether a process is below another; supervisors of runs live beside, not below."""
    if name in RUN_PARTS:
        return True
    while pid > 1:
        if pid == ancestor:
            return True
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return False
        pid = int(stat.rpartition(")")[2].split()[1])
    return False


@pytest.mark.parametrize("name", [*SERVICES, *RUN_PARTS])
async def test_whatever_dies_the_stranger_gets_the_gpu(
    common_path: Path, nvml_library: Path, stranger: Stranger, name: str
) -> None:
    async with running(common_path, nvml_library) as (system, watch):
        gpu = system.gpu(0)
        assert gpu
        victim = find(system, name)

        os.kill(victim, signal.SIGKILL)
        killed_at = time.monotonic()
        stranger.open(system.devices[0])

        if name in SERVICES:
            await system.until(lambda: find_other(system, name, victim), 5)
        await system.until(
            lambda: gpu.gpu not in watch.workloads(), 35 - (time.monotonic() - killed_at)
        )
        stranger.close(system.devices[0])
        await system.until(lambda: len(watch.workloads()) == 2, 60)
        await system.until(lambda: len(system.runs()) == 2, 30)


def find_other(system: System, name: str, victim: int) -> bool:
    """Return whether another process has taken a victim's place."""
    try:
        return find(system, name) != victim
    except AssertionError:
        return False


async def test_without_gleaner_up_nothing_is_left_after_35_s(
    common_path: Path, nvml_library: Path
) -> None:
    system = System(
        common_path,
        up=True,
        stand_in=driver(common_path, nvml_library),
        more=f'[web]\nlisten = "127.0.0.1:{free_port()}"',
    )
    async with system:
        await system.until(lambda: len(system.runs()) == 2, 40)

        system.processes["up"].kill()
        system.processes["up"].wait()

        await system.until(lambda: left_of(common_path) == {}, 35)
