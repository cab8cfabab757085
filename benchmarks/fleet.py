"""What 1,000 nodes of 8 GPUs cost the recorder; a part of `make bench-recorder`.

python -m benchmarks.fleet [--seconds 60]
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
from tests.mosquitto import Mosquitto

NODES = 1000
SAMPLE_SECONDS = 10
GOAL_CPU_PERCENT = 40.0
GOAL_RESIDENT_MB = 150.0
KINDS = 20
"""Nodes that differ; the others say the same under names of their own."""
IN_FLIGHT = 500


def minute(begin: datetime, number: int) -> Iterator[Event]:
    """Yield the samples of one minute of all nodes."""
    # The same nodes each minute.
    chance = random.Random(1)
    kinds = [Node(f"kind{one}", chance) for one in range(KINDS)]
    step = timedelta(seconds=SAMPLE_SECONDS)
    said = [list(one.says(begin, begin + timedelta(minutes=1), step))[-1] for one in kinds]
    for node in range(NODES):
        place = {"node": f"gpu{node:04d}", "sequence": number, "oldest_sequence": 1}
        yield said[node % KINDS].model_copy(update=place)


async def speak(url: str, seconds: float, minutes: int) -> None:
    """Say one minute of all nodes, or five minutes that are over, within some seconds."""
    bus = MqttBus(Connection(url=url), "benchmark", "1")
    task = asyncio.create_task(bus.run())
    while not bus.connected:
        await asyncio.sleep(0.01)
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    if minutes == 1:
        events = list(minute(now - timedelta(minutes=1), 1))
    else:
        begin = now - timedelta(minutes=20 + now.minute % 5)
        by_minute = [
            minute(begin + timedelta(minutes=number), 2 + number) for number in range(minutes)
        ]
        # Node by node, so that five minutes are complete when they are rolled up.
        events = [one for of_node in zip(*by_minute, strict=True) for one in of_node]
    print("ready", flush=True)
    begin_at, gate = time.monotonic(), asyncio.Semaphore(IN_FLIGHT)

    async def say(event: Event) -> None:
        refusal = await bus.deliver(event)
        assert refusal is None, refusal
        gate.release()

    async with asyncio.TaskGroup() as group:
        for place, event in enumerate(events):
            await gate.acquire()
            await asyncio.sleep(begin_at + seconds * place / len(events) - time.monotonic())
            group.create_task(say(event))
    task.cancel()
    await asyncio.wait([task])


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
            database = directory / "recorder" / "gleaner.sqlite"
            paced = await _cost(process, broker.url, seconds, database, minutes=1)
            resident = process.memory_info().rss / 1e6
            over = await _cost(process, broker.url, seconds, database, minutes=5)
            later = process.memory_info().rss / 1e6
        finally:
            recorder.terminate()
            recorder.wait(10)
    print(f"{NODES} nodes of {GPUS} GPUs, a sample each {SAMPLE_SECONDS} s:")
    figure(
        f"CPU, a minute of samples within {seconds:g} s, measured", 100 * paced / 60, "% of core"
    )
    figure("CPU for five minutes that are over, and their roll-ups", over, "s")
    total = 100 * (paced / 60 + over / 300)
    met = figure("CPU, at most (extrapolated: sum of both)", total, "% of core", GOAL_CPU_PERCENT)
    met &= figure("resident, after that minute", resident, "MB", GOAL_RESIDENT_MB)
    return met & figure("resident, after five times that pace", later, "MB", GOAL_RESIDENT_MB)


async def _cost(
    process: psutil.Process, url: str, seconds: float, database: Path, *, minutes: int
) -> float:
    """Return the CPU time until everything that another process says is counted."""
    command = [sys.executable, "-m", "benchmarks.fleet", "--speak", url, "--seconds", str(seconds)]
    command += ["--minutes", str(minutes)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert child.stdout is not None
    await asyncio.to_thread(child.stdout.readline)
    before = cpu_seconds(process)
    assert await asyncio.to_thread(child.wait) == 0
    events = NODES if minutes == 1 else (1 + minutes) * NODES
    while not _is_counted(database, events, wait_for_roll_ups=minutes > 1):
        await asyncio.sleep(0.2)
    return cpu_seconds(process) - before


def _is_counted(path: Path, events: int, *, wait_for_roll_ups: bool) -> bool:
    database = sqlite3.connect(path, timeout=10)
    try:
        (known,) = database.execute(
            "SELECT count(DISTINCT stream||':'||sequence) FROM sample"
        ).fetchone()
        over = int(time.time() - 600) // 300
        (left,) = database.execute("SELECT count(*) FROM dirty WHERE slot < ?", (over,)).fetchone()
    finally:
        database.close()
    return known >= events and not (wait_for_roll_ups and left)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--speak", default="", help=argparse.SUPPRESS)
    parser.add_argument("--minutes", type=int, default=1, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.speak:
        asyncio.run(speak(given.speak, given.seconds, given.minutes))
        sys.exit()
    print_machine()
    with tempfile.TemporaryDirectory(prefix="gleaner-") as place:
        sys.exit(not asyncio.run(measure(given.seconds, Path(place))))
