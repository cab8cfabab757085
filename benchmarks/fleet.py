"""What 1,000 nodes of 8 GPUs cost the recorder; a part of `make bench-recorder`.

    python -m benchmarks.fleet [--seconds 300]

A real mosquitto, the recorder as a process of its own, and another that says what the nodes would:
each minute of each node at its place in the minute after it. It begins with what the last nodes
said in the last five to ten minutes, all at once, as after an outage. When that is counted and
rolled up, what the recorder takes is measured for five minutes: in these fall the samples of five
minutes and the roll-ups of five.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from benchmarks.figures import figure, print_machine
from benchmarks.month import GPUS, Node
from gleaner.bus.connection import Connection
from gleaner.bus.messages import Event
from gleaner.bus.mqtt import MqttBus
from services.recorder.accounts.accounting import LATENESS
from services.recorder.values.columns import to_slot
from services.recorder.values.rollup import FIVE_MINUTES, start_of
from tests.mosquitto import Mosquitto

NODES = 1000
SAMPLE_SECONDS = 10
GOAL_CPU_PERCENT = 40.0
GOAL_RESIDENT_MB = 150.0
KINDS = 20
"""Nodes that differ; the others say the same under names of their own."""
IN_FLIGHT = 500
MINUTE = timedelta(minutes=1)


def minute(begin: datetime, number: int) -> Iterator[Event]:
    """Yield the samples of one minute of all nodes."""
    # The same nodes each minute.
    chance = random.Random(1)
    kinds = [Node(f"kind{one}", chance) for one in range(KINDS)]
    step = timedelta(seconds=SAMPLE_SECONDS)
    said = [list(one.says(begin, begin + MINUTE, step))[-1] for one in kinds]
    for node in range(NODES):
        place = {"node": f"gpu{node:04d}", "sequence": number, "oldest_sequence": 1}
        yield said[node % KINDS].model_copy(update=place)


async def speak(url: str) -> None:
    """Say what the nodes said since the last five minutes began, then each minute in the next."""
    bus = MqttBus(Connection(url=url), "benchmark", "1")
    task = asyncio.create_task(bus.run())
    while not bus.connected:
        await asyncio.sleep(0.01)
    gate = asyncio.Semaphore(IN_FLIGHT)

    async def say(event: Event) -> None:
        refusal = await bus.deliver(event)
        assert refusal is None, refusal
        gate.release()

    begin = start_of(datetime.now(UTC), FIVE_MINUTES.width) - FIVE_MINUTES.width
    number, is_behind = 0, True
    async with asyncio.TaskGroup() as group:
        while not task.done():
            number += 1
            over = begin + number * MINUTE
            if is_behind and over > datetime.now(UTC) - MINUTE:
                is_behind = False
                print(number - 1, flush=True)
            for place, event in enumerate(minute(over - MINUTE, number)):
                await gate.acquire()
                due = over + MINUTE * place / NODES
                await asyncio.sleep((due - datetime.now(UTC)).total_seconds())
                group.create_task(say(event))


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU time that a process has used so far."""
    return float(sum(process.cpu_times()[:2]))


async def measure(seconds: float, directory: Path) -> bool:
    """Print what the fleet costs; return whether the goals were met."""
    with Mosquitto(directory) as broker:
        environment = os.environ | {
            "GLEANER_BUS__URL": broker.url,
            "GLEANER_NODE__DATA_DIRECTORY": str(directory),
            "GLEANER_LOG__LEVEL": "warning",
        }
        recorder = subprocess.Popen([sys.executable, "-m", "services.recorder"], env=environment)
        process = psutil.Process(recorder.pid)
        try:
            health = directory / "health" / "recorder"
            while not health.exists():
                await asyncio.sleep(0.01)
            used, resident = await _cost(
                process, broker.url, seconds, directory / "recorder" / "gleaner.sqlite"
            )
            later = process.memory_info().rss / 1e6
        finally:
            recorder.terminate()
            recorder.wait(10)
    print(f"{NODES} nodes of {GPUS} GPUs, a sample each {SAMPLE_SECONDS} s:")
    met = figure(
        f"CPU over {seconds:g} s, roll-ups included", 100 * used, "% of core", GOAL_CPU_PERCENT
    )
    met &= figure("resident, after minutes at once", resident, "MB", GOAL_RESIDENT_MB)
    return met & figure("resident, after that", later, "MB", GOAL_RESIDENT_MB)


async def _cost(
    process: psutil.Process, url: str, seconds: float, database: Path
) -> tuple[float, float]:
    """Return the share of a core that it takes, and its MB before that was measured."""
    command = [sys.executable, "-m", "benchmarks.fleet", "--speak", url]
    speaker = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert speaker.stdout is not None
        said = int(await asyncio.to_thread(speaker.stdout.readline))
        first = await _counted(database, said * NODES)
        resident = process.memory_info().rss / 1e6
        before, began = cpu_seconds(process), time.monotonic()
        written = process.io_counters().write_bytes
        await asyncio.sleep(seconds)
        last = await _counted(database, 0)
        took = time.monotonic() - began
        used = (cpu_seconds(process) - before) / took
        written = process.io_counters().write_bytes - written
        figure(
            "events of a node counted in that time", (last - first) / NODES / took * 60, "a minute"
        )
        figure("written to the disk", written / 1e6 / took * 60, "MB a minute")
        return used, resident
    finally:
        speaker.kill()
        speaker.wait()


async def _counted(path: Path, least: int) -> int:
    """Wait for so many events, and until all that is over is rolled up; return how many came."""
    database = sqlite3.connect(path, timeout=10)
    try:
        while True:
            (said,) = database.execute("SELECT coalesce(sum(watermark), 0) FROM stream").fetchone()
            over = datetime.now(UTC) - LATENESS - FIVE_MINUTES.width
            (left,) = database.execute(
                "SELECT count(*) FROM dirty WHERE slot <= ?", (to_slot(over),)
            ).fetchone()
            if said >= least and not left:
                return int(said)
            await asyncio.sleep(0.5)
    finally:
        database.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--speak", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.speak:
        asyncio.run(speak(given.speak))
        sys.exit()
    print_machine()
    with tempfile.TemporaryDirectory(prefix="gleaner-") as place:
        sys.exit(not asyncio.run(measure(given.seconds, Path(place))))
