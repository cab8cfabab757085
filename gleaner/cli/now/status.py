"""`gleaner status`: the fleet as a table or as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gleaner import names
from gleaner.bus.messages import GpuCondition
from gleaner.cli.connect import connected
from gleaner.cli.settings import Settings
from gleaner.cli.words import duration, gibibytes, percent
from gleaner.fleet import Fleet, FleetView, GpuView, NodeView, Presence, follow
from gleaner.tell import tell_clock

SETTLE_SECONDS = 0.3
HEARD_SECONDS = 3.0
"""How long we wait for the beat of a node; each has one a second, or slower if set so."""

CLOCK_TOLERANCE = timedelta(seconds=2)
"""A clock that differs by less is taken for ours: the difference is mostly the network's."""

COLOURS = {
    GpuCondition.IDLE: "green",
    GpuCondition.OURS: "cyan",
    GpuCondition.BUSY: "red",
    GpuCondition.HELD: "yellow",
    GpuCondition.DIRTY: "yellow",
    GpuCondition.LOST: "bold red",
    GpuCondition.UNKNOWN: "dim",
}


@asynccontextmanager
async def watched_fleet(settings: Settings) -> AsyncIterator[Fleet]:
    """Connect and listen until every node has been heard, or long enough; then go on listening."""
    fleet = Fleet()
    async with connected(settings) as client:
        follow(client.bus, fleet)
        await heard(fleet)
        yield fleet


async def heard(fleet: Fleet) -> None:
    """Wait until every node of a fleet that is followed has been heard, or long enough."""
    # Retained facts come at once, but nothing says which of them is the last.
    await asyncio.sleep(SETTLE_SECONDS)
    deadline = asyncio.get_running_loop().time() + HEARD_SECONDS
    # A fleet changes by messages, and by time alone.
    while _is_anybody_unheard(fleet):
        if asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(0.02)


def _is_anybody_unheard(fleet: Fleet) -> bool:
    now = datetime.now(UTC)
    return any(node.presence(now) is Presence.UNHEARD for node in fleet.nodes.values())


def now_of(fleet: Fleet) -> FleetView:
    """Return the fleet at this moment."""
    return fleet.snapshot(datetime.now(UTC))


def has_scheduler(view: FleetView) -> bool:
    """Whether a scheduler is there: by its beat, or, before we could hear one, by its own word."""
    return view.has_scheduler() or any(
        service == "scheduler" and said.state == "online"
        for (service, _), said in view.services.items()
    )


def table(view: FleetView, lost_seconds: float | None = None) -> RenderableType:
    """Return the fleet for a terminal; a state is a word, its colour only repeats it.

    `lost_seconds`: for how long nothing has been heard, because the broker is lost.
    """
    found = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("GPU", "Model", "State", "For"):
        found.add_column(heading, no_wrap=True)
    for heading in ("Use", "Memory"):
        found.add_column(heading, no_wrap=True, justify="right")
    found.add_column("Who, or why nothing starts", overflow="fold")
    for node in view.nodes.values():
        for gpu in node.gpus(view.at):
            found.add_row(*_row(node, gpu, view.at))
    trouble: list[RenderableType] = []
    if lost_seconds is not None:
        text = f"THE BROKER CANNOT BE REACHED: this is {duration(lost_seconds)} old"
        trouble = [Text(text, style="bold red"), ""]
    return Group(*trouble, found, "", *(Text(line) for line in _lines(view)))


def _row(node: NodeView, gpu: GpuView, now: datetime) -> tuple[str | Text, ...]:
    since = gpu.state.since if gpu.state else None
    reading = gpu.reading
    return (
        names.gpu(node.node, gpu.index),
        Text((gpu.inventory and gpu.inventory.name) or "–"),
        Text(gpu.word, style=style(gpu)),
        duration((node.node_time(now) - since).total_seconds()) if since else "–",
        percent(reading.utilization_percent if reading else None),
        gibibytes(
            reading.memory_used_bytes if reading else None,
            reading.memory_total_bytes if reading else None,
        ),
        Text(explain(node, gpu, now)),
    )


def style(gpu: GpuView) -> str:
    """Return the colour of its word; only what can be had is green."""
    return COLOURS[gpu.condition if gpu.is_usable else GpuCondition.UNKNOWN]


def explain(node: NodeView, gpu: GpuView, now: datetime) -> str:
    """Say in a few words who has a GPU, or why nobody does."""
    presence = node.presence(now)
    if presence is not Presence.ONLINE:
        return f"node is {presence.value}"
    if gpu.run is not None:
        return f"{gpu.run.entry} ({gpu.run.reason})"
    reasons = gpu.state.reasons if gpu.state else ()
    if reasons and gpu.condition is not GpuCondition.IDLE:
        return "; ".join(reasons)
    if gpu.blockers:
        return "; ".join(blocker.text for blocker in gpu.blockers)
    return ""


def _lines(view: FleetView) -> list[str]:
    lines = []
    for node in view.nodes.values():
        said = [f"{node.node}: {node.presence(view.at).value}"]
        age = node.age_seconds(view.at)
        if node.presence(view.at) is Presence.STALE and age is not None:
            said.append(f"last heard {duration(age)} ago")
        if node.is_simulated:
            said.append("simulated")
        if node.inventory is not None and not node.gpus(view.at):
            said.append("no GPU")
        if node.people is not None:
            said.append(node.people.reason)
        if node.runner is not None and node.runner.paused:
            said.append(f"paused here: {node.runner.paused_reason or 'pause file'}")
        if node.inventory is not None and node.inventory.driver_problem:
            said.append(node.inventory.driver_problem)
        if abs(node.clock_ahead) > CLOCK_TOLERANCE:
            said.append(tell_clock(node.clock_ahead))
        lines.append("; ".join(said))
    if not view.nodes:
        lines.append("no node has said anything yet")
    if not has_scheduler(view):
        lines.append("no scheduler is heard: nothing new starts")
    if view.history_problem is not None:
        lines.append(view.history_problem)
    if view.scheduler is not None:
        for pause in view.scheduler.pauses:
            what = " of ".join(filter(None, (pause.entry, pause.node or "everything")))
            until = f" until {pause.until:%Y-%m-%d %H:%M} UTC" if pause.until else ""
            why = pause.reason or "no reason given"
            lines.append(f"paused: {what}, by {pause.by}{until}: {why}")
        lines += [
            f"drained: {drain.node}, by {drain.by}: {drain.reason or 'no reason given'}"
            for drain in view.scheduler.drains
        ]
    return lines


def as_json(view: FleetView, lost_seconds: float | None = None) -> dict[str, Any]:
    """Return everything that the table shows, and more, for programs."""
    return {
        "at": view.at.isoformat(),
        "broker_lost_seconds": lost_seconds,
        "has_scheduler": has_scheduler(view),
        "scheduler": _dump(view.scheduler),
        "recorder": _dump(view.recorder),
        "history_problem": view.history_problem,
        "nodes": [
            {
                "node": node.node,
                "presence": node.presence(view.at).value,
                "age_seconds": node.age_seconds(view.at),
                "simulated": node.is_simulated,
                "inventory": _dump(node.inventory),
                "people": _dump(node.people),
                "runner": _dump(node.runner),
                "catalogue": _dump(node.catalogue),
                "workloads": [_dump(one) for one in node.workloads()],
                "runs": [_dump(run) for run in node.runs.values()],
                "host": _dump(telemetry.host if telemetry else None),
                "gpus": [
                    {
                        "gpu": gpu.gpu,
                        "index": gpu.index,
                        "condition": gpu.condition.value,
                        "state": _dump(gpu.state),
                        "reading": _dump(gpu.reading),
                        "run": gpu.run.run if gpu.run else None,
                        "blockers": None
                        if gpu.blockers is None
                        else [_dump(blocker) for blocker in gpu.blockers],
                    }
                    for gpu in node.gpus(view.at)
                ],
            }
            for node in view.nodes.values()
            for telemetry in (node.current_telemetry(view.at),)
        ],
    }


def _dump(value: BaseModel | None) -> Any:
    return None if value is None else value.model_dump(mode="json")
