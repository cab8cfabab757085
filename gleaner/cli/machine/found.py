"""Say in one line what a node turned out to be, and what it cannot do."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gleaner.bus.connection import Connection
from gleaner.bus.interface import Delivery
from gleaner.bus.messages import Inventory, RunnerState
from gleaner.bus.mqtt import MqttBus
from gleaner.cli.machine.child import tell

RUNNER_SECONDS = 3.0
"""How long we wait for the runner's part when the collector's is there."""

_NOTICING = {
    "fanotify": "at once",
    "inotify": "at once, but not by whom",
    "check": "at the next check only",
    "atime": "within some seconds only",
    "script": "by script",
    "nothing": "not at all",
}


@dataclass(frozen=True, kw_only=True)
class _Node:
    """What one node has said since it was started."""

    since: datetime
    inventory: asyncio.Future[Inventory] = field(default_factory=asyncio.Future)
    runner: asyncio.Future[RunnerState] = field(default_factory=asyncio.Future)

    def take(self, delivery: Delivery) -> None:
        # The broker may have kept something from before.
        match delivery.message:
            case Inventory(at=at) as inventory if at >= self.since and not self.inventory.done():
                self.inventory.set_result(inventory)
            case RunnerState(at=at) as runner if at >= self.since and not self.runner.done():
                self.runner.set_result(runner)


async def say_found(reader: Connection, node_ids: tuple[str, ...]) -> None:
    """Listen until each node has said what it is, and pass it on."""
    bus = MqttBus(reader, "cli", "up", announces=False)
    now = datetime.now(UTC)
    nodes = {node: _Node(since=now) for node in node_ids}
    for name, node in nodes.items():
        bus.subscribe(Inventory, node.take, node=name)
        bus.subscribe(RunnerState, node.take, node=name)
    running = asyncio.create_task(bus.run(), name="bus")
    try:
        await asyncio.gather(*(_say(node) for node in nodes.values()))
    finally:
        running.cancel()
        await asyncio.wait([running])


async def _say(node: _Node) -> None:
    inventory = await node.inventory
    runner = None
    with contextlib.suppress(TimeoutError):
        runner = await asyncio.wait_for(node.runner, RUNNER_SECONDS)
    tell(describe(inventory, runner))


def describe(inventory: Inventory, runner: RunnerState | None) -> str:
    """Return the line: GPUs, driver, how people and programs are noticed, what is missing."""
    said = [f"{inventory.node}: {_gpus(inventory)}"]
    if inventory.source != "simulated":
        opens = _NOTICING[inventory.notices_opens_by]
        people = _NOTICING[inventory.notices_people_by]
        if opens == people:
            said.append(f"programs and people are noticed {opens}")
        else:
            said += [f"programs are noticed {opens}", f"people are noticed {people}"]
    limitations = [*inventory.limitations, *(runner.limitations if runner else ())]
    return "; ".join([*said, *(text.rstrip(".") for text in limitations)])


def _gpus(inventory: Inventory) -> str:
    names: dict[str, int] = {}
    for gpu in inventory.gpus:
        name = gpu.name or "GPU"
        names[name] = names.get(name, 0) + 1
    if inventory.source == "simulated":
        return _count(names)
    text = _count(names) if names else "no NVIDIA GPU"
    if inventory.driver_version:
        text += f", driver {inventory.driver_version}"
    if inventory.driver_problem:
        text += f", {inventory.driver_problem}"
    return text


def _count(names: dict[str, int]) -> str:
    return ", ".join(f"{count} × {name}" for name, count in names.items())
