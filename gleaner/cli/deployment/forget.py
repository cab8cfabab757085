"""Take a node's facts off the bus, as the node itself, so that nobody shows it any longer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gleaner.bus.connection import Connection
from gleaner.bus.interface import Delivery
from gleaner.bus.message import Message, Writer, message_types
from gleaner.bus.messages import Availability, Run
from gleaner.bus.mqtt import MqttBus
from gleaner.cli.machine.broker import Address, is_answered

SECONDS = 5.0
_MARK = "forgotten"
"""Of no run: what comes before it was retained."""
_OWN = frozenset({Writer.COLLECTOR, Writer.RUNNER, Writer.NODE})


def forget(node: str, whole: Connection, collector: Connection, runner: Connection) -> bool:
    """Clear all that a node has said; False if the broker cannot be reached."""
    with contextlib.suppress(TimeoutError, OSError):
        if is_answered(Address(*whole.address)):
            asyncio.run(_forget(node, {"node": whole, "collector": collector, "runner": runner}))
            return True
    return False


async def _forget(node: str, accounts: dict[str, Connection]) -> None:
    async with asyncio.timeout(SECONDS):
        for service, to in accounts.items():
            async with _connected(to, node) as bus:
                if service == "node":
                    await _clear_facts(bus, node)
                bus.clear(Availability, service=service, instance=node)


async def _clear_facts(bus: MqttBus, node: str) -> None:
    said: list[Delivery] = []
    are_all_here = asyncio.Event()

    def hear(delivery: Delivery) -> None:
        if delivery.levels.get("run") == _MARK:
            are_all_here.set()
        else:
            said.append(delivery)

    for kind in _facts():
        bus.subscribe(kind, hear, node=node)
    bus.clear(Run, node=node, run=_MARK)
    await are_all_here.wait()
    for delivery in said:
        bus.clear(delivery.message_type, **delivery.levels)


def _facts() -> list[type[Message]]:
    return [
        kind
        for kind in message_types()
        if kind.contract.retain and kind.contract.writer in _OWN and "node" in kind.contract.levels
    ]


@asynccontextmanager
async def _connected(to: Connection, node: str) -> AsyncIterator[MqttBus]:
    bus = MqttBus(to, "cli", node, announces=False)
    came = asyncio.Event()
    bus.on_connection(lambda connected: came.set() if connected else None)
    task = asyncio.create_task(bus.run(), name="bus")
    try:
        await came.wait()
        yield bus
    finally:
        # Its farewell waits until everything is sent.
        task.cancel()
        await asyncio.wait([task])
