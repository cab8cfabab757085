"""Put collector and runner of a node on one bus and one connection; simulated ones by the dozen."""

from __future__ import annotations

import asyncio

from gleaner.bus.local import NodeBus
from gleaner.bus.message import Writer
from gleaner.bus.mqtt import MqttBus
from gleaner.bus.outbox import Outbox
from gleaner.namesake import Namesake
from gleaner.runtime import (
    boot_id,
    connection,
    go_first,
    keep_enrolment,
    keep_healthy,
    speak_as,
)
from services.collector.service import collect
from services.node.settings import Settings
from services.runner.service import alone, run_node

ROLES = frozenset({Writer.COLLECTOR, Writer.RUNNER})


async def serve(settings: Settings) -> None:
    """Run this node, or as many simulated ones as are wanted."""
    go_first(settings.node.gpu.source)
    keep_enrolment(settings.bus, settings.node.data_directory)
    async with asyncio.TaskGroup() as group:
        for one in nodes(settings):
            group.create_task(serve_node(one), name=one.node.id)


async def serve_node(settings: Settings) -> None:
    """Run one node: its reflex needs neither the broker nor the disk."""
    directory, node = settings.node.data_directory, settings.node.id
    speak_as(f"node {node}")
    remote = MqttBus(connection(settings.bus), "node", node)
    with alone(directory), Outbox(directory / "node" / "outbox.sqlite") as outbox:
        bus = NodeBus(node, boot_id(), remote, outbox, ROLES)
        namesake = Namesake(bus, remote, "node")
        async with asyncio.TaskGroup() as group:
            around = [
                group.create_task(remote.run(), name="bus"),
                group.create_task(bus.run(), name="events"),
                group.create_task(keep_healthy(directory, "node", remote), name="health"),
                group.create_task(namesake.watch(), name="namesake"),
                group.create_task(collect(bus, settings), name="collector"),
            ]
            try:
                await run_node(bus, settings)
            finally:
                # The runner ends first: it still looks at what its runs hold, and says so.
                for task in around:
                    task.cancel()


def nodes(settings: Settings) -> list[Settings]:
    """Return the settings of each node of this process: one, or several simulated ones."""
    count = settings.node.simulated.nodes
    if settings.node.gpu.source != "simulated" or count == 1:
        return [settings]
    return [_numbered(settings, number) for number in range(1, count + 1)]


def title(settings: Settings) -> str:
    """Name the nodes of this process."""
    ids = [one.node.id for one in nodes(settings)]
    return ids[0] if len(ids) == 1 else f"{ids[0]} to {ids[-1]}"


def _numbered(settings: Settings, number: int) -> Settings:
    node = f"{settings.node.id}-{number}"
    directory = settings.node.data_directory / "simulated" / node
    user = settings.bus.user and f"{settings.bus.user}-{number}"
    return settings.model_copy(
        update={
            "bus": settings.bus.model_copy(update={"user": user}),
            "node": settings.node.model_copy(update={"id": node, "data_directory": directory}),
        }
    )
