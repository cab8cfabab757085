"""What an idle node of 8 GPUs costs: collector, runner and the NVML child together.

A real node process beside a real broker and scheduler, with real device files and a stand-in for
NVIDIA's library that answers at once: what is measured is Gleaner, not a driver. `make bench-node`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import psutil

from benchmarks.figures import figure
from gleaner.bus.messages import GpuState
from tests.nvml_stand_in import StandIn, a_gpu, build
from tests.system import System

GPUS = 8
CPU_PERCENT_GOAL = 1.0
RESIDENT_MB_GOAL = 90.0


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Return the CPU time that processes have used so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


async def main(seconds: float) -> bool:
    """Print what the node costs; return whether both goals were met."""
    with tempfile.TemporaryDirectory(prefix="gleaner-") as name:
        directory = Path(name)
        stand_in = StandIn(library=build(directory), file=directory / "nvml")
        stand_in.gpus = [a_gpu(number) for number in range(GPUS)]
        stand_in.write()
        system = System(
            directory, gpus=GPUS, workloads="", people="enabled = true", stand_in=stand_in
        )
        async with system:
            await system.until(lambda: len(system.facts(GpuState)) == GPUS)
            await asyncio.sleep(5)
            node = psutil.Process(system.processes["node"].pid)
            processes = [node, *node.children(recursive=True)]
            before = cpu_seconds(processes)
            await asyncio.sleep(seconds)
            share = 100 * (cpu_seconds(processes) - before) / seconds
            resident = sum(process.memory_info().rss for process in processes) / 1e6
            shared = sum(process.memory_full_info().pss for process in processes) / 1e6
    print(f"an idle node of {GPUS} GPUs, one check a second, over {seconds:g} s:")
    met = figure(f"CPU, {len(processes)} processes", share, "% of core", CPU_PERCENT_GOAL)
    met &= figure("resident, NVML child included", resident, "MB", RESIDENT_MB_GOAL)
    print(f"{'of that its own share (PSS)':<58} {shared:10.2f} MB")
    return met


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    sys.exit(0 if asyncio.run(main(parser.parse_args().seconds)) else 1)
