"""A process of `gleaner up` hangs, while somebody takes a GPU: he gets it, and all is well after.

SIGSTOP stands for everything that makes a process hang. A node that hangs is the one case in which
time has to pass: supervisors wait 25 s for its beat, see `tests/runner/test_restart.py`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.faults.test_kill import Watch, find, running
from tests.system import Stranger, System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

SERVICES = (
    "mosquitto",
    "nvml_child.py",
    "services.scheduler",
    "services.recorder",
    "services.web",
)


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    somebody = Stranger()
    yield somebody
    somebody.end()


@contextmanager
def hanging(pid: int) -> Iterator[None]:
    """Let a process hang; it may have been killed for it meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


async def takes(system: System, watch: Watch, stranger: Stranger, index: int) -> None:
    """Take a GPU; the workload there is gone soon after."""
    gpu = system.gpu(index)
    assert gpu
    stranger.open(system.devices[index])
    await system.until(lambda: gpu.gpu not in watch.workloads(), 15)


async def is_well(system: System, watch: Watch) -> None:
    """Wait until there is a run on each GPU again, and it is known."""
    await system.until(lambda: len(watch.workloads()) == 2, 60)
    await system.until(lambda: len(system.runs()) == 2, 30)


async def test_whatever_hangs_the_stranger_gets_the_gpu(
    common_path: Path, nvml_library: Path, stranger: Stranger
) -> None:
    async with running(common_path, nvml_library) as (system, watch):
        for name in SERVICES:
            with hanging(find(system, name)):
                await takes(system, watch, stranger, 0)
                await takes(system, watch, stranger, 1)
            stranger.close(system.devices[0])
            stranger.close(system.devices[1])
            await is_well(system, watch)

        supervised, worked = system.run_on(0), system.run_on(1)
        assert supervised
        assert supervised.supervisor_pid
        assert worked
        assert worked.pid
        with hanging(supervised.supervisor_pid), hanging(worked.pid):
            await takes(system, watch, stranger, 0)
            await takes(system, watch, stranger, 1)
        stranger.close(system.devices[0])
        stranger.close(system.devices[1])
        await is_well(system, watch)
