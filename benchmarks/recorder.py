"""What the recorder takes from the bus to the disk, and what that costs. `make bench-recorder`.

    python -m benchmarks.recorder [--events 30000] [--seconds 300] [--days 31]

A real mosquitto and the recorder as a process of its own: as many events as the broker takes, as
after an outage of a large fleet. What 1,000 nodes of 8 GPUs cost is measured by `benchmarks.fleet`,
how large the database becomes by `benchmarks.month`; both run as well.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import fleet, month
from benchmarks.figures import print_machine
from gleaner.bus.connection import Connection
from gleaner.bus.messages import Event, Recorded
from gleaner.bus.mqtt import MqttBus
from tests.mosquitto import Mosquitto

NODES = 10
GOAL_PER_SECOND = 2000
GOAL_RESIDENT_MB = 120
IN_FLIGHT = 2000


class Fleet:
    """Nodes that speak through one connection, and what they hear back."""

    def __init__(self, bus: MqttBus, count: int) -> None:
        self._bus = bus
        self._count = count
        self._recorded: dict[str, int] = {}
        bus.subscribe(Recorded, lambda delivery: self._hear(delivery.message))

    def _hear(self, message: object) -> None:
        if isinstance(message, Recorded):
            self._recorded[message.node] = message.streams.get("bench", 0)

    @property
    def recorded(self) -> int:
        return sum(self._recorded.values())

    async def speak(self) -> None:
        limit = asyncio.Semaphore(IN_FLIGHT)

        async def say(number: int) -> None:
            event = Event(
                node=f"n{number % NODES}",
                stream="bench",
                sequence=number // NODES + 1,
                oldest_sequence=1,
                kind="problem",
                data={"what": "benchmark", "text": "x" * 200},
                boot_id="boot",
                at=datetime.now(UTC),
            )
            refusal = await self._bus.deliver(event)
            assert refusal is None, refusal
            limit.release()

        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                await limit.acquire()
                group.create_task(say(number))
        while self.recorded < self._count:
            await asyncio.sleep(0.01)


def resident_mb(pid: int) -> float:
    """Return the memory a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


async def measure(count: int, directory: Path) -> bool:
    """Print how fast events reach the disk; return whether the goals were met."""
    with Mosquitto(directory) as broker:
        environment = os.environ | {
            "GLEANER_BUS__URL": broker.url,
            "GLEANER_NODE__DATA_DIRECTORY": str(directory),
            "GLEANER_LOG__LEVEL": "warning",
        }
        recorder = subprocess.Popen([sys.executable, "-m", "services.recorder"], env=environment)
        bus = MqttBus(Connection(url=broker.url), "benchmark", "1")
        fleet = Fleet(bus, count)
        task = asyncio.create_task(bus.run())
        health = directory / "health" / "recorder"
        while not (bus.connected and health.exists()):
            await asyncio.sleep(0.01)
        idle = resident_mb(recorder.pid)
        before = time.monotonic()

        await fleet.speak()

        seconds = time.monotonic() - before
        loaded = resident_mb(recorder.pid)
        task.cancel()
        await asyncio.wait([task])
        recorder.terminate()
        recorder.wait(10)
    database = sqlite3.connect(directory / "recorder" / "gleaner.sqlite")
    (rows,) = database.execute("SELECT count(*) FROM event").fetchone()
    database.close()
    assert rows == count, f"{rows} of {count} rows"
    print(f"{count / seconds:8.0f} events/s from bus to disk (goal: {GOAL_PER_SECOND} or more)")
    print(f"{idle:8.0f} MB resident, idle (goal: {GOAL_RESIDENT_MB} or less)")
    print(f"{loaded:8.0f} MB resident, after {count} events")
    return count / seconds >= GOAL_PER_SECOND and idle <= GOAL_RESIDENT_MB


async def main(events: int, seconds: float, days: int) -> bool:
    """Measure everything; return whether the goals were met."""
    print_machine()
    with tempfile.TemporaryDirectory(prefix="gleaner-") as place:
        met = await measure(events, Path(place))
    with tempfile.TemporaryDirectory(prefix="gleaner-") as place:
        met &= await fleet.measure(seconds, Path(place))
    return met & await month.main(days)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=30_000)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--days", type=int, default=31)
    given = parser.parse_args()
    sys.exit(not asyncio.run(main(given.events, given.seconds, given.days)))
