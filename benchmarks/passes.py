"""What a look at all processes costs a node that starts, and how long it holds the node's loop.

A real check of the device files beside 3,000 sleeping processes with 20 open files each, with no
notices (`check`), so that each check is a whole pass. `make bench-passes`, about twenty seconds;
needs root.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from benchmarks.figures import figure, print_machine
from gleaner.bus.local import NodeBus
from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.message import Writer
from gleaner.bus.outbox import Outbox
from gleaner.settings import GpuSettings, NodeSettings
from services.collector.device_files import DeviceFilesSource
from services.collector.gpus import GpuWatch
from services.collector.kernel.notices import FirstThatCan
from services.collector.processes.procfs import ProcfsProcesses
from tests.system import crowd, disperse, make_devices

CHECKS = 10


async def longest_hold(seconds: float = 0.001) -> float:
    """Return, when cancelled, the longest time in which nothing else had its turn."""
    longest, last = 0.0, time.perf_counter()
    try:
        while True:
            await asyncio.sleep(seconds)
            now = time.perf_counter()
            longest, last = max(longest, now - last - seconds), now
    except asyncio.CancelledError:
        return max(longest, time.perf_counter() - last)


async def timed(watch: GpuWatch) -> tuple[float, float, float]:
    """Return what a check took, what of that was work, and how long it held the loop, in ms."""
    holding = asyncio.create_task(longest_hold())
    await asyncio.sleep(0.01)
    began, worked = time.perf_counter(), time.thread_time()
    await watch.check()
    took, work = time.perf_counter() - began, time.thread_time() - worked
    holding.cancel()
    return 1000 * took, 1000 * work, 1000 * await holding


async def measure(directory: Path) -> None:
    """Print the first check and the worst of those that follow."""
    devices = directory / "dev"
    make_devices(devices, 8)
    settings = NodeSettings(id="n1", gpu=GpuSettings(device_directory=devices))
    processes, notices = ProcfsProcesses(), FirstThatCan()
    with Outbox(directory / "outbox.sqlite") as outbox:
        bus = NodeBus(
            "n1", "boot", MemoryBus(MemoryBroker()), outbox, frozenset({Writer.COLLECTOR})
        )
        source = DeviceFilesSource(devices, "no NVML")
        watch = GpuWatch(bus, settings, source, processes, notices, on_devices=processes.watch)
        first = await timed(watch)
        later = []
        for _ in range(CHECKS):
            await asyncio.sleep(0.5)
            later.append(await timed(watch))
        watch.close()
    for title, (took, work, held) in (
        ("the first check", first),
        (f"the dearest of {CHECKS} that follow", max(later, key=lambda one: one[1])),
    ):
        figure(title, took, "ms")
        figure("  of that work", work, "ms")
        figure("  the loop was held at most", held, "ms")


def main(number: int) -> None:
    """Print what checks cost beside so many processes."""
    print_machine()
    print(f"checks of a node without notices, beside {number} processes with 20 open files each:")
    others = crowd(number, 20)
    try:
        with tempfile.TemporaryDirectory(prefix="gleaner-") as name:
            asyncio.run(measure(Path(name)))
    finally:
        disperse(others)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=3000)
    main(parser.parse_args().processes)
