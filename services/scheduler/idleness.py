"""Why a GPU may not be used now: every reason, in an operator's words.

No blocker means that the GPU is idle by the rules; see docs/scheduling.md for all codes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from gleaner.bus.messages import Blocker, Drain, GpuCondition, GpuInventory, Pause
from gleaner.settings import SchedulerSettings
from services.scheduler.state import Node

STEP_SECONDS = 10
"""Texts count in these steps, so that they do not change with every second."""


def node_blockers(
    node: Node, pauses: tuple[Pause, ...], drains: tuple[Drain, ...], now: datetime
) -> tuple[Blocker, ...]:
    """Return why nothing starts anywhere on a node."""
    return (
        *_presence(node, now),
        *_policy(node, pauses, drains),
        *_runner(node),
        *_driver(node),
        *_people(node),
    )


def gpu_blockers(
    node: Node, gpu: GpuInventory, run: str | None, policy: SchedulerSettings, now: datetime
) -> tuple[Blocker, ...]:
    """Return why one GPU, which a run of ours may have, may not be used; its node aside."""
    if not gpu.schedulable:
        text = "divided into MIG devices; those are used instead"
        return (Blocker(code="not_schedulable", text=text),)
    state = node.gpus.get(gpu.gpu)
    taken = () if run is None else (_taken(node, run),)
    if state is None:
        return (*taken, Blocker(code="unknown", text="nothing was heard of it yet"))
    reasons = "; ".join(state.reasons)
    match state.state:
        case GpuCondition.IDLE:
            return taken or tuple(_idle_for(node, gpu, policy, now))
        case GpuCondition.OURS:
            return taken or (Blocker(code="ours", text=reasons or "a run of ours still holds it"),)
        case condition:
            return (*taken, Blocker(code=condition.value, text=reasons or _WORDS[condition]))


_WORDS = {
    GpuCondition.BUSY: "somebody uses it",
    GpuCondition.HELD: "somebody holds it and does nothing",
    GpuCondition.DIRTY: "memory or device still held by nobody we can name",
    GpuCondition.LOST: "the driver says it is gone",
    GpuCondition.UNKNOWN: "the node cannot tell who uses it",
}


def is_paused(pauses: tuple[Pause, ...], node: str, entry: str) -> Pause | None:
    """Return the pause that one workload is under, widest first, or None."""
    for pause in sorted(
        pauses, key=lambda pause: (pause.node is not None, pause.entry is not None)
    ):
        if pause.node in (None, node) and pause.entry in (None, entry):
            return pause
    return None


def pause_blocker(pause: Pause) -> Blocker:
    """Return a pause in words."""
    what = "the fleet is paused" if pause.node is None else "paused"
    by = f"{pause.by} until {pause.until:%Y-%m-%d %H:%M:%S} UTC" if pause.until else pause.by
    return Blocker(code="paused", text=_by(what, by, pause.reason), until=pause.until)


def _presence(node: Node, now: datetime) -> Iterator[Blocker]:
    part = node.missing_connection
    if part is not None:
        who = node.node if part == "node" else f"the {part} of {node.node}"
        yield Blocker(code="offline", text=f"{who} is offline")
    elif node.beat_received_at is None:
        yield Blocker(code="unheard", text=f"nothing was heard of {node.node} yet, only old facts")
    elif not node.is_fresh(now):
        text = f"no check of {node.node} since {_clock(node.beat_received_at)}"
        yield Blocker(code="stale", text=text)
    elif node.unheard is not None:
        yield Blocker(code="unheard", text=f"{node.unheard} was not heard yet")


def _policy(node: Node, pauses: tuple[Pause, ...], drains: tuple[Drain, ...]) -> Iterator[Blocker]:
    for pause in pauses:
        if pause.node in (None, node.node) and pause.entry is None:
            yield pause_blocker(pause)
    if node.runner is not None and node.runner.paused:
        why = node.runner.paused_reason
        text = "paused by the file on the node" + (f": {why}" if why else "")
        yield Blocker(code="paused", text=text)
    for drain in drains:
        if drain.node == node.node:
            yield Blocker(code="drained", text=_by("drained", drain.by, drain.reason))


def _runner(node: Node) -> Iterator[Blocker]:
    runner = node.runner
    if runner is None:
        return
    if not runner.watched:
        yield Blocker(code="not_watched", text="the runner does not hear the collector's checks")
    if runner.lease == "lost":
        yield Blocker(code="lease", text="the node has not heard the scheduler for 30 s")
    elif runner.lease == "none":
        text = "the node obeys no scheduler yet; is this one's key among its scheduler_keys?"
        yield Blocker(code="lease", text=text)


def _driver(node: Node) -> Iterator[Blocker]:
    if node.inventory is not None and node.inventory.driver_problem:
        yield Blocker(code="driver", text=node.inventory.driver_problem)


def _people(node: Node) -> Iterator[Blocker]:
    if node.people is None:
        yield Blocker(code="people", text="nobody has said yet who is there")
    elif node.people.active:
        yield Blocker(code="people", text=node.people.reason)


def _taken(node: Node, name: str) -> Blocker:
    run = node.runs.get(name)
    if run is not None:
        text = f"{run.entry} {run.state.value} (run {name})"
    else:
        entry = next(grant.entry for grant in node.grants if grant.run == name)
        text = f"{entry} granted, the node has not begun it yet (run {name})"
    return Blocker(code="taken", text=text)


def _idle_for(
    node: Node, gpu: GpuInventory, policy: SchedulerSettings, now: datetime
) -> Iterator[Blocker]:
    needed = policy.gpu_idle_seconds
    idle = idle_seconds(node, gpu.gpu, now)
    if idle < needed:
        shown = max(0, idle - idle % STEP_SECONDS)
        yield Blocker(
            code="idle_for",
            text=f"idle for {shown:.0f} of {needed:g} s",
            until=now + timedelta(seconds=needed - idle),
        )


def idle_seconds(node: Node, gpu: str, now: datetime) -> float:
    """Return how long no stranger was at a GPU, counted by the node's own clock."""
    since = node.quiet_since.get(gpu)
    if since is None:
        return 0.0
    # While no collector looked, anybody may have been there.
    looked_since = node.beat.started_at if node.beat else None
    return (node.time(now) - max(since, looked_since or since)).total_seconds()


def _by(what: str, by: str, reason: str) -> str:
    return f"{what} by {by}: {reason}" if reason else f"{what} by {by}"


def _clock(at: datetime) -> str:
    return f"{at.astimezone(UTC):%H:%M:%S} UTC"
