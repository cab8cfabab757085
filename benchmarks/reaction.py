"""From a stranger's `open()` of a device, or a key on a terminal, to SIGTERM at our workload.

Real processes on both ends: the stranger (another user) notes CLOCK_MONOTONIC before its `open()`,
the workload notes it in its signal handler. Beside 500 other processes (`--processes`) with 20 open
files each.
`make bench-reaction`, nine and a half minutes; needs root. The terminals are in a `/dev/pts` of our
own, so that nobody else's keys are measured. `--gpu` measures a real GPU and a real CUDA process
instead.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import print_machine, reaction
from benchmarks.terminals import Typist, private_terminals
from gleaner.bus.messages import Inventory, People
from tests.gpu.machine import CudaStranger, Machine, machine_of_stand_ins, real_machine
from tests.nvml_stand_in import build
from tests.system import Stranger, System, crowd, disperse

GPUS = 8
GOALS_MS: dict[str, tuple[float | None, float]] = {
    "fanotify": (5, 30),
    # It does not say who it was: processes are looked at, newest first.
    "inotify": (None, 1200),
    "check": (None, 1200),
}
"""p50 and p99."""
CLOCK_SECONDS = 1.0
"""A check's period; a random part of it is waited for, or all trials would begin just after one."""
STILL_SECONDS = 0.05
"""Who measures looks at nothing meanwhile: it would compete with what it measures."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table."""

    stimulus: str
    by: str
    share: float
    """Of the trials asked for."""
    apart: bool = False
    cut: bool = False
    """Scheduler and broker are killed before each round."""

    @property
    def title(self) -> str:
        """Return what is measured."""
        shape = "two processes, broker between" if self.apart else "one process"
        cut = ", scheduler, broker dead" if self.cut else ""
        return f"{self.stimulus}, {self.by}, {shape}{cut}"


ROWS = (
    Row(stimulus="open", by="fanotify", share=1),
    Row(stimulus="open", by="fanotify", share=0.3, cut=True),
    Row(stimulus="open", by="fanotify", share=1, apart=True),
    Row(stimulus="open", by="inotify", share=1),
    Row(stimulus="open", by="check", share=0.2),
    Row(stimulus="key", by="fanotify", share=1),
    Row(stimulus="key", by="fanotify", share=0.5, apart=True),
    Row(stimulus="key", by="inotify", share=0.5),
    Row(stimulus="key", by="check", share=0.25),
)


async def all_run(system: System) -> None:
    """Wait until there is work on every GPU."""
    await system.until(lambda: len(system.runs()) == len(system.devices), 60)


async def all_gone(system: System, gone: set[str]) -> None:
    """Wait until we have heard that these runs are over."""
    await system.until(lambda: not gone & {one.run for one in system.runs()}, 60)


async def told(system: System, run: str, since: int) -> float:
    """Return how many milliseconds after an instant a run was told to leave."""
    await system.until(lambda: system.told_to_leave(run) is not None)
    at = system.told_to_leave(run)
    assert at
    return (at - since) / 1e6


async def opens(system: System, row: Row, trials: int) -> list[float]:
    """Return milliseconds from open to TERM: rounds in which each GPU is opened once."""
    stranger, found = Stranger(), list[float]()
    while len(found) < trials:
        await all_run(system)
        if row.cut:
            system.processes["scheduler"].kill()
            system.processes["scheduler"].wait()
            system.broker.kill()
        gone = {one.run for one in system.runs()}
        for index, device in enumerate(system.devices):
            run = system.run_on(index)
            assert run, f"GPU {index} has lost its run to somebody else"
            await asyncio.sleep(random.random() * (CLOCK_SECONDS if row.by == "check" else 0.1))
            at = stranger.open(device)
            await asyncio.sleep(STILL_SECONDS)
            found.append(await told(system, run.run, at))
        for device in system.devices:
            stranger.close(device)
        if row.cut:
            system.broker.start()
            system.start("scheduler")
            # What we heard last was said before the cut.
            await all_gone(system, gone)
    stranger.end()
    return found[:trials]


async def keys(system: System, typist: Typist, trials: int) -> list[float]:
    """Return milliseconds from a key to TERM, for each of the runs that it makes leave."""
    found = list[float]()
    while len(found) < trials:
        typist.be_away()
        await system.until(lambda: not any(fact.active for fact in system.facts(People)), 60)
        await all_run(system)
        await asyncio.sleep(random.random() * CLOCK_SECONDS)
        runs = system.runs()
        at = typist.type()
        await asyncio.sleep(STILL_SECONDS)
        found += [await told(system, run.run, at) for run in runs]
        await system.until(lambda: not system.runs())
    return found[:trials]


async def measure(row: Row, trials: int, terminals: Path) -> bool:
    """Measure one row and print it."""
    people = "enabled = false"
    if row.stimulus == "key":
        people = f'idle_seconds = 0.5\nseats = false\ndevice_directory = "{terminals}"'
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        # The typist is there before anybody looks, so that all keys find the terminal watched.
        typist = Typist(terminals) if row.stimulus == "key" else None
        if typist:
            stack.callback(typist.end)
        system = System(
            Path(name), gpus=GPUS, apart=row.apart, node=f'notices = "{row.by}"', people=people
        )
        async with system:
            await system.until(lambda: bool(system.facts(Inventory)))
            wanted = max(GPUS, round(trials * row.share))
            found = (
                await keys(system, typist, wanted) if typist else await opens(system, row, wanted)
            )
    return reaction(row.title, found, *GOALS_MS[row.by])


async def measure_cuda(machine: Machine, trials: int) -> bool:
    """Measure a CUDA process as the stranger, from its cuInit and from its context."""
    from_init, from_context, took = list[float](), list[float](), list[float]()
    with tempfile.TemporaryDirectory() as name:
        system = System(
            Path(name),
            gpus=machine.gpus,
            stand_in=machine.stand_in,
            device_directory=machine.device_directory,
            environment=machine.environment,
        )
        async with machine.running(), system:
            for number in range(trials):
                await system.until(lambda: system.run_on(0) is not None, 60)
                run = system.run_on(0)
                assert run
                directory = Path(name) / str(number)
                directory.mkdir()
                directory.chmod(0o755)
                stranger = CudaStranger(machine, directory)
                await system.until(stranger.is_ready, 60)
                start, context = stranger.at("start"), stranger.at("context")
                assert start
                assert context
                from_init.append(await told(system, run.run, start))
                from_context.append(await told(system, run.run, context))
                took.append((context - start) / 1e6)
                stranger.end()
    print(f"a CUDA process on {machine.name}; minus: TERM came before its context was there")
    reaction("cuInit to context", took, None, None)
    reaction("start of cuInit to TERM", from_init, None, None)
    return reaction("context to TERM", from_context, None, 1200)


async def main(rows: list[Row], trials: int, terminals: Path, processes: int) -> bool:
    """Print all rows; return whether every goal was met."""
    print(f"reaction: event to SIGTERM, beside {processes} processes with 20 open files each")
    print("peer: gpu_mon, polling each second: p50 750 ms, worst 970 ms on the same work")
    return all([await measure(row, trials, terminals) for row in rows])


def machine_for(gpu: str, directory: Path) -> Machine:
    """Return the machine that `--gpu` means; end with a sentence if there is none."""
    if gpu == "stand-in":
        directory.chmod(0o755)
        return machine_of_stand_ins(directory, build(directory))
    machine = real_machine()
    if isinstance(machine, str):
        sys.exit(machine)
    return machine


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, help="of the longest rows (320), or CUDA's (20)")
    parser.add_argument("--gpu", nargs="?", const="real", choices=("real", "stand-in"))
    parser.add_argument("--processes", type=int, default=500, help="of others, beside ours (500)")
    parser.add_argument("--rows", default="", help="only rows with this in their title")
    arguments = parser.parse_args()
    rows = [row for row in ROWS if arguments.rows in row.title]
    print_machine()
    with tempfile.TemporaryDirectory(prefix="gleaner-") as place:
        others = crowd(arguments.processes, 20)
        started = time.monotonic()
        try:
            if arguments.gpu:
                machine = machine_for(arguments.gpu, Path(place))
                met = asyncio.run(measure_cuda(machine, arguments.trials or 20))
            else:
                with private_terminals(Path(place)):
                    met = asyncio.run(
                        main(rows, arguments.trials or 320, Path(place), arguments.processes)
                    )
        finally:
            disperse(others)
            print(f"took {time.monotonic() - started:.0f} s")
    sys.exit(0 if met else 1)
