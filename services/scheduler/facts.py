"""Fold one fact of a node into what is known of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from gleaner.bus.interface import Delivery
from gleaner.bus.message import Message
from gleaner.bus.messages import (
    Availability,
    Beat,
    Catalogue,
    CauseKind,
    GpuState,
    Inventory,
    People,
    Run,
    RunnerState,
    RunState,
)
from gleaner.fleet import is_of_older_connection
from services.scheduler.state import CALM, Node, put

_FIELDS: dict[type[Message], str] = {
    Catalogue: "catalogue",
    Inventory: "inventory",
    People: "people",
    RunnerState: "runner",
}


def with_fact(node: Node, delivery: Delivery, now: datetime) -> Node:
    """Return a node with one more fact; the very same node if that is no news."""
    message, levels = delivery.message, delivery.levels
    match message:
        case Beat():
            return node if delivery.retained else _with_beat(node, message, now)
        case Availability():
            return _with_availability(node, message)
        case GpuState():
            return _with_gpu(node, message)
        case Run():
            node = node if delivery.retained else _not_offline(node, "runner")
            return _with_run(node, message)
        case RunnerState():
            node = node if delivery.retained else _not_offline(node, "runner")
            node = replace(node, archived=node.archived.intersection(message.runs))
    kind = delivery.message_type
    if kind in _FIELDS:
        if getattr(node, _FIELDS[kind]) == message:
            return node
        change: dict[str, Any] = {_FIELDS[kind]: message}
        return replace(node, **change)
    if kind is Availability:
        return _not_offline(
            replace(node, connections=put(node.connections, levels["service"], None)),
            levels["service"],
        )
    if kind is GpuState:
        return replace(
            node,
            gpus=put(node.gpus, levels["gpu"], None),
            quiet_since=put(node.quiet_since, levels["gpu"], None),
        )
    if kind is Run:
        return replace(
            node,
            runs=put(node.runs, levels["run"], None),
            archived=node.archived | {levels["run"]},
        )
    return node


def _with_beat(node: Node, beat: Beat, now: datetime) -> Node:
    node = _not_offline(node, "node", "collector")
    # Later than now, by the same clock: it was set back, and idle time counts from here.
    quiet = {gpu: min(since, beat.at) for gpu, since in node.quiet_since.items()}
    if quiet != node.quiet_since:
        node = replace(node, quiet_since=MappingProxyType(quiet))
    return replace(node, beat=beat, beat_received_at=now)


def _with_availability(node: Node, said: Availability) -> Node:
    last = node.connections.get(said.service)
    if said == last or is_of_older_connection(said, last):
        return node
    node = replace(node, connections=put(node.connections, said.service, said))
    if said.state == "offline":
        return replace(node, offline=node.offline | {said.service})
    node = _not_offline(node, said.service)
    if said.service == "runner":
        return node
    # A new connection is a new agent, perhaps: its first beat comes after its first facts.
    return replace(node, beat=None, beat_received_at=None)


def _with_gpu(node: Node, said: GpuState) -> Node:
    before = node.gpus.get(said.gpu)
    if before == said:
        return node
    quiet: datetime | None = None
    if said.state in CALM:
        quiet = node.quiet_since.get(said.gpu)
        # Between idle and ours nobody else was there. Idle again since later: somebody was.
        was_disturbed = (
            before is not None and before.state is said.state and before.since != said.since
        )
        if quiet is None or was_disturbed:
            quiet = said.since
    return replace(
        node,
        gpus=put(node.gpus, said.gpu, said),
        quiet_since=put(node.quiet_since, said.gpu, quiet),
    )


def _with_run(node: Node, run: Run) -> Node:
    before = node.runs.get(run.run)
    if before == run:
        return node
    node = replace(node, runs=put(node.runs, run.run, run))
    if _had_to_leave(run) and not (before and before.state.is_final):
        # Whoever it left for may be a moment from being seen here, and a node that stops from
        # being offline: count idle time from now on.
        left_at = run.cleared_at or run.exited_at or run.at
        quiet = {
            gpu: max(since, left_at) if gpu in run.gpus else since
            for gpu, since in node.quiet_since.items()
        }
        node = replace(node, quiet_since=MappingProxyType(quiet))
    return node


def _had_to_leave(run: Run) -> bool:
    stopped = run.cause is not None and run.cause.kind is CauseKind.SHUTDOWN
    return run.state is RunState.EVICTED or (run.state.is_final and stopped)


def _not_offline(node: Node, *services: str) -> Node:
    if node.offline.isdisjoint(services):
        return node
    return replace(node, offline=node.offline.difference(services))


def without_facts(node: Node) -> Node:
    """Return a node of which only what was decided is known."""
    return Node(
        node=node.node,
        taken_over=node.taken_over,
        grants=node.grants,
        generation=node.generation,
        blockers=node.blockers,
    )


def is_empty(node: Node) -> bool:
    """Whether nothing is left that the node said: somebody removed it."""
    return not (
        node.inventory
        or node.catalogue
        or node.runner
        or node.people
        or node.gpus
        or node.runs
        or node.connections
    )
