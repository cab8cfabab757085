"""How many events a second the recorder takes from the bus to the disk, and what it weighs.

    python -m benchmarks.recorder [events]

A real mosquitto and the recorder as a process of its own; the events come from this process as
fast as the broker takes them, as after an outage of a large fleet.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from gleaner.bus.messages import Event, Recorded
from gleaner.bus.mqtt import Connection, MqttBus
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


async def measure(count: int, directory: Path) -> None:
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
    sys.exit(count / seconds < GOAL_PER_SECOND or idle > GOAL_RESIDENT_MB)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 30_000, Path(place)))
