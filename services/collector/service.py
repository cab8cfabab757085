"""The collector: GPUs and people of one node become facts and events on its bus."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from gleaner.bus.interface import Delivery
from gleaner.bus.local import NodeBus
from gleaner.bus.message import Writer
from gleaner.bus.messages import Run, RunnerState
from gleaner.bus.mqtt import MqttBus
from gleaner.bus.outbox import Outbox
from gleaner.namesake import Namesake
from gleaner.runtime import Fatal, boot_id, connection, go_first, keep_enrolment, keep_healthy
from gleaner.settings import NodeSettings
from services.collector.gpus import GpuWatch
from services.collector.interface import Notices, Processes, Source, Terminals
from services.collector.kernel.notices import open_notices
from services.collector.nvml.driver import NvmlSource
from services.collector.people.terminals import RealTerminals
from services.collector.people.watch import PeopleWatch
from services.collector.processes import procfs
from services.collector.settings import CollectorSettings
from services.collector.source import UntilNvml, open_source

logger = logging.getLogger(__name__)

RUNS_SECONDS = 3.0
"""How long a collector that starts waits to hear from the runner."""


@dataclass(kw_only=True)
class Parts:
    """The four things that are reached, and what ties them together; see `GpuWatch`."""

    source: Source
    processes: Processes
    terminals: Terminals
    notices: Notices
    on_devices: Callable[[dict[str, Path]], None] | None = None
    own_pids: Callable[[], Collection[int]] = tuple
    limitations: tuple[str, ...] = ()


async def serve(settings: CollectorSettings) -> None:
    """Run the collector on its own, with a connection and an outbox of its own."""
    node = settings.node
    go_first(node.gpu.source)
    keep_enrolment(settings.bus, node.data_directory)
    remote = MqttBus(connection(settings.bus), "collector", node.id)
    with Outbox(node.data_directory / "collector" / "outbox.sqlite") as outbox:
        bus = NodeBus(node.id, boot_id(), remote, outbox, frozenset({Writer.COLLECTOR}))
        namesake = Namesake(bus, remote, "collector")
        async with asyncio.TaskGroup() as group:
            group.create_task(remote.run(), name="bus")
            group.create_task(bus.run(), name="outbox")
            group.create_task(keep_healthy(node.data_directory, "collector", remote), name="health")
            group.create_task(namesake.watch(), name="namesake")
            group.create_task(collect(bus, settings), name="collector")


async def collect(bus: NodeBus, settings: CollectorSettings) -> None:
    """Collect until cancelled, on a bus that others of this node may share."""
    node = settings.node
    runs = await _RunsHeard(bus).wait(RUNS_SECONDS)
    async with AsyncExitStack() as stack:
        parts = await _open_parts(bus, node, stack)
        people = PeopleWatch(bus, node.people, node.id, parts.terminals, parts.notices)
        stack.push_async_callback(people.close)
        gpus = GpuWatch(
            bus,
            node,
            parts.source,
            parts.processes,
            parts.notices,
            runs=runs,
            people=people,
            limitations=parts.limitations,
            on_devices=parts.on_devices,
            own_pids=parts.own_pids,
        )
        stack.callback(gpus.close)
        while True:
            started = time.monotonic()
            await people.check()
            await gpus.check()
            await gpus.wait(started)


async def _open_parts(bus: NodeBus, node: NodeSettings, stack: AsyncExitStack) -> Parts:
    if node.gpu.source == "simulated":
        return _simulated_parts(bus, node, stack)
    source = await open_source(node.gpu)
    stack.push_async_callback(source.close)
    notices = open_notices(node.notices)
    stack.callback(notices.close)
    processes = procfs.ProcfsProcesses(node.gpu.command_lines)
    return Parts(
        source=source,
        processes=processes,
        terminals=RealTerminals(node.people),
        notices=notices,
        on_devices=processes.watch,
        own_pids=lambda: _own_pids(source),
        limitations=procfs.limitations(),
    )


def _simulated_parts(bus: NodeBus, node: NodeSettings, stack: AsyncExitStack) -> Parts:
    # Imported where it is wanted: a real node is smaller without it.
    from services.collector.simulated.node import Simulation
    from services.collector.simulated.replay import CaptureSource, RecordedProcesses

    capture = node.simulated.capture
    try:
        simulation = Simulation(node, quiet=capture is not None)
        played = CaptureSource(capture, Path("/simulated", node.id)) if capture else None
    except ValueError as error:
        raise Fatal(str(error)) from error
    stack.push_async_callback(simulation.source.close)
    stack.callback(simulation.notices.close)
    if played is None:
        simulation.attach(bus)
    return Parts(
        source=played or simulation.source,
        processes=RecordedProcesses() if played else simulation.processes,
        terminals=simulation.terminals,
        notices=simulation.notices,
    )


def _own_pids(source: Source) -> tuple[int, ...]:
    """Return this process and the child that asks NVML: a driver's client holds every device."""
    child = source.child_pid if isinstance(source, NvmlSource | UntilNvml) else None
    return (os.getpid(),) if child is None else (os.getpid(), child)


class _RunsHeard:
    """Knows when every run that the runner tells of has been heard.

    A collector that starts must not take the runner's runs for strangers just because their facts
    are still under way, or because the runner is still looking for them.
    """

    def __init__(self, bus: NodeBus) -> None:
        self._named: frozenset[str] | None = None
        self._heard: dict[str, Run] = {}
        self._is_waiting = True
        self._all = asyncio.Event()
        bus.subscribe(RunnerState, self._on_runner, node=bus.node)
        bus.subscribe(Run, self._on_run, node=bus.node)

    async def wait(self, seconds: float) -> tuple[Run, ...]:
        """Return them when all are known, or those that are after some seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._all.wait()
        except TimeoutError:
            logger.info("no runner was heard; its runs would be taken for strangers")
        self._is_waiting = False
        return tuple(self._heard.values())

    def _on_runner(self, delivery: Delivery) -> None:
        if isinstance(delivery.message, RunnerState):
            self._named = frozenset(delivery.message.runs)
            self._tell()

    def _on_run(self, delivery: Delivery) -> None:
        if self._is_waiting and isinstance(delivery.message, Run):
            self._heard[delivery.message.run] = delivery.message
            self._tell()

    def _tell(self) -> None:
        if self._named is not None and self._named <= self._heard.keys():
            self._all.set()
