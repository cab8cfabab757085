"""A node as a process: appends events for a while and ends when all are recorded."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from gleaner.bus.connection import Connection
from gleaner.bus.local import NodeBus
from gleaner.bus.message import Writer
from gleaner.bus.messages import EventKind
from gleaner.bus.mqtt import MqttBus
from gleaner.bus.outbox import Outbox


async def main(url: str, directory: str, node: str, count: int, seconds: float) -> None:
    with Outbox(Path(directory) / node / "outbox.sqlite") as outbox:
        remote = MqttBus(Connection(url=url), "node", node)
        roles = frozenset({Writer.COLLECTOR, Writer.RUNNER})
        bus = NodeBus(node, "boot", remote, outbox, roles)
        tasks = [asyncio.create_task(remote.run()), asyncio.create_task(bus.run())]
        for number in range(count):
            bus.record(EventKind.PROBLEM, {"what": "soak", "text": str(number)})
            await asyncio.sleep(seconds / count)
        while bus.unrecorded:
            await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], int(sys.argv[4]), float(sys.argv[5])))  # type: ignore[call-arg]
