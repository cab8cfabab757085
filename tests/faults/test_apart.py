"""Collector and runner in two processes: whatever is lost between them, the runs leave."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest

from gleaner.bus.messages import Run
from tests.faults.proxy import Network
from tests.system import Stranger, System, processes_with

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

LEAVES_SECONDS = 8.0
"""Five without a check, one tick, and the time that leaving takes."""


def workloads(system: System) -> list[int]:
    """Return the pids of the workloads that live."""
    found = processes_with(str(system.program)).items()
    return [pid for pid, line in found if "runner/supervisor" not in line]


def causes(system: System) -> set[str]:
    """Return what made runs leave."""
    runs = (one for one in system.heard if isinstance(one, Run))
    return {run.cause.kind.value for run in runs if run.cause}


async def leaves(system: System) -> float:
    """Wait until no workload lives; return how long that took."""
    began = time.monotonic()
    await system.until(lambda: not workloads(system), LEAVES_SECONDS)
    return time.monotonic() - began


async def returns(system: System) -> float:
    """Wait until work goes on; return how long that took."""
    began = time.monotonic()
    await system.until(lambda: len(workloads(system)) == 2, 40)
    return time.monotonic() - began


async def test_the_collector_dies(common_path: Path) -> None:
    system = System(common_path, apart=True)
    async with system:
        await system.until(lambda: len(system.runs()) == 2)
        system.stop("collector", signal.SIGKILL)

        took = await leaves(system)
        await system.until(lambda: causes(system) == {"not_watched"}, 5)
        system.start("collector")

        print(f"left after {took:.1f} s, back after {await returns(system):.1f} s")


async def test_the_runners_network_is_cut(common_path: Path) -> None:
    system = System(common_path, apart=True)
    stranger = Stranger()
    with Network(system.broker.port) as network:
        system.ways["runner"] = network.url
        async with system:
            await system.until(lambda: len(system.runs()) == 2)
            network.cut()
            stranger.open(system.devices[0])

            took = await leaves(system)
            stranger.close(system.devices[0])
            await asyncio.sleep(3)
            assert workloads(system) == []
            network.mend()

            print(f"left after {took:.1f} s, back after {await returns(system):.1f} s")
            await system.until(lambda: len(system.runs()) == 2)
        stranger.end()
