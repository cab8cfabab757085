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

from benchmarks.figures import figure, print_machine
from gleaner.bus.messages import GpuState
from tests.nvml_stand_in import StandIn, a_gpu, build
from tests.system import NOBODYS_NUMBERS, System

GPUS = 8
CPU_PERCENT_GOAL = 1.0
RESIDENT_MB_GOAL = 90.0
SETTLE_SECONDS = 5.0


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Return the CPU time that processes have used so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


async def measure(seconds: float, library: Path, *, working: bool) -> bool:
    """Print what the node costs; return whether its goals were met."""
    with tempfile.TemporaryDirectory(prefix="gleaner-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        stand_in = StandIn(library=library, file=directory / "nvml")
        stand_in.gpus = [a_gpu(number) for number in range(GPUS)]
        stand_in.write()
        system = System(
            directory,
            gpus=GPUS,
            workloads=None if working else "",
            # Whoever logs in here while this is measured must not make the runs leave.
            people="enabled = true\nidle_seconds = 0",
            stand_in=stand_in,
            device_numbers=NOBODYS_NUMBERS,
        )
        async with system:
            await system.until(lambda: len(system.facts(GpuState)) == GPUS)
            if working:
                await system.until(lambda: len(system.runs()) == GPUS, 60)
            await asyncio.sleep(SETTLE_SECONDS)
            node = psutil.Process(system.processes["node"].pid)
            agents = [node, *(one for one in node.children() if "nvml_child" in str(one.cmdline()))]
            others = [
                psutil.Process(run.supervisor_pid) for run in system.runs() if run.supervisor_pid
            ]
            before, others_before = cpu_seconds(agents), cpu_seconds(others)
            await asyncio.sleep(seconds)
            share = 100 * (cpu_seconds(agents) - before) / seconds
            others_share = 100 * (cpu_seconds(others) - others_before) / seconds
            resident = sum(process.memory_info().rss for process in agents) / 1e6
            own = sum(process.memory_full_info().pss for process in agents) / 1e6
            others_own = sum(process.memory_full_info().pss for process in others) / 1e6
    if not working:
        print(f"an idle node of {GPUS} GPUs, one check a second, over {seconds:g} s:")
        met = figure(f"CPU, {len(agents)} processes", share, "% of core", CPU_PERCENT_GOAL)
        met &= figure("resident, NVML child included", resident, "MB", RESIDENT_MB_GOAL)
        figure("of that its own share (PSS)", own, "MB")
        return met
    print(f"the same node with {GPUS} runs of ours:")
    figure(f"CPU, {len(agents)} processes", share, "% of core")
    figure("resident, NVML child included", resident, "MB")
    figure(f"CPU, {len(others)} supervisors together", others_share, "% of core")
    figure(f"own share (PSS) of {len(others)} supervisors together", others_own, "MB")
    return True


async def main(seconds: float) -> bool:
    """Print what the node costs, idle and at work; return whether the goals were met."""
    print_machine()
    with tempfile.TemporaryDirectory(prefix="gleaner-") as name:
        library = build(Path(name))
        return all([await measure(seconds, library, working=working) for working in (False, True)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    sys.exit(0 if asyncio.run(main(parser.parse_args().seconds)) else 1)
