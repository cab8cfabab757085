"""From what is known of the fleet to what is shown of it; pure.

Nothing is shown as current unless somebody looks at the node right now: of a node that is stale,
offline or unheard every GPU is `unknown`, without readings and holders, and `last` says in the
past tense what was known.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from gleaner import fleet as known
from gleaner import names
from gleaner.bus.messages import GpuCondition, GpuReading, Holder, Run, SchedulerState
from gleaner.tell import tell_clock
from services.web.shown.overview import answer_of
from services.web.shown.view import Gpu, GpuReadings, Node, Readings, ShownRun

REACTION = {
    "fanotify": "within milliseconds (fanotify)",
    "inotify": "within milliseconds, without knowing who (inotify)",
    "check": "at the next check, about a second (polling only)",
    "script": "as scripted",
}
"""How fast a node notices that somebody opens a GPU, by `Inventory.notices_opens_by`."""
CLOCK_TOLERANCE_SECONDS = 2.0
"""A clock that differs by less is taken for ours: the difference is mostly the network's."""


def show_node(
    node: known.NodeView, now: datetime, scheduler: SchedulerState | None, called: names.Called
) -> tuple[Node, Readings]:
    """Return a node without its readings, and its readings."""
    gpus = node.gpus(now)
    return _show_facts(node, now, scheduler, called, gpus), _show_readings(node, now, gpus)


def show_readings(node: known.NodeView, now: datetime) -> Readings:
    """Return a node's readings; None everywhere when they are not current."""
    return _show_readings(node, now, node.gpus(now))


def _show_facts(
    node: known.NodeView,
    now: datetime,
    scheduler: SchedulerState | None,
    called: names.Called,
    gpus: tuple[known.GpuView, ...],
) -> Node:
    inventory, people, runner = node.inventory, node.people, node.runner
    presence = node.presence(now)
    is_current = presence is known.Presence.ONLINE
    ahead = _clock_ahead(node)
    pauses = scheduler.pauses if scheduler else ()
    drains = scheduler.drains if scheduler else ()
    shown = tuple(
        _show_gpu(node.node, gpu, is_current=is_current, ahead=ahead, models=called.models)
        for gpu in gpus
    )
    headline, details = answer_of(presence, shown, simulated=node.is_simulated)
    return Node(
        node=node.node,
        name=names.node(node.node, names.host(node), called.nodes),
        host=inventory.host if inventory else None,
        labels=inventory.labels if inventory else (),
        presence=presence,
        presence_text=_PRESENCE_TEXT[presence],
        headline=headline,
        details=details,
        heard_at=None if is_current else node.beat_received_at,
        simulated=node.is_simulated,
        source=inventory.source if inventory else None,
        driver_version=inventory.driver_version if inventory else None,
        driver_problem=inventory.driver_problem if inventory else None,
        agent_version=inventory.agent_version if inventory else None,
        notices_opens_by=inventory.notices_opens_by if inventory else None,
        notices_people_by=inventory.notices_people_by if inventory else None,
        reaction=REACTION[inventory.notices_opens_by] if inventory else None,
        limitations=_limitations(node, ahead),
        gpus=shown,
        people_watched=people.watched if people else None,
        people_active=people.active if people and is_current else None,
        people_reason=people.reason if people and is_current else "not known now",
        people=tuple(
            person.model_copy(update={"since": person.since - ahead}) for person in people.people
        )
        if people and is_current
        else (),
        pause=next((p for p in pauses if p.node == node.node and p.entry is None), None),
        local_pause=(runner.paused_reason or "the pause file is there")
        if runner and runner.paused
        else None,
        drain=next((drain for drain in drains if drain.node == node.node), None),
        lease=runner.lease if runner and is_current else None,
        runs=tuple(
            show_run(run, ahead, is_current=is_current)
            for run in sorted(node.runs.values(), key=_newest_first)
        ),
        workloads=node.workloads(),
        resumable=tuple(
            workload.entry
            for workload in node.workloads()
            if any(blocker.code == "crashed" for blocker in workload.blockers)
            or any(p.node == node.node and p.entry == workload.entry for p in pauses)
        ),
    )


def _show_readings(
    node: known.NodeView, now: datetime, gpus: tuple[known.GpuView, ...]
) -> Readings:
    telemetry = node.current_telemetry(now)
    return Readings(
        node=node.node,
        readings_at=telemetry.at - _clock_ahead(node) if telemetry else None,
        host_reading=telemetry.host if telemetry else None,
        gpus=tuple(_numbers(gpu.reading) for gpu in gpus),
    )


def _numbers(reading: GpuReading | None) -> GpuReadings:
    if reading is None:
        return (None, None, None, None, None)
    return (
        reading.utilization_percent,
        reading.memory_used_bytes,
        reading.temperature_celsius,
        reading.power_watts,
        reading.unattributed_memory_bytes,
    )


def with_readings(node: Node, readings: Readings) -> Node:
    """Return a node with its readings filled in."""
    return node.model_copy(
        update={
            "readings_at": readings.readings_at,
            "host_reading": readings.host_reading,
            "gpus": tuple(
                gpu.model_copy(
                    update={
                        "utilization_percent": utilization,
                        "memory_used_bytes": memory,
                        "temperature_celsius": temperature,
                        "power_watts": power,
                        "unattributed_memory_bytes": unattributed,
                    }
                )
                for gpu, (utilization, memory, temperature, power, unattributed) in zip(
                    node.gpus, readings.gpus, strict=True
                )
            ),
        }
    )


def show_run(run: Run, ahead: timedelta = timedelta(), *, is_current: bool = True) -> ShownRun:
    """Return a run without what only the node needs (tokens, cgroups, supervisors)."""
    return ShownRun(
        current=is_current or run.state.is_final,
        run=run.run,
        node=run.node,
        entry=run.entry,
        gpus=run.gpus,
        state=run.state,
        reason=run.reason,
        pid=run.pid,
        user=run.user,
        started_at=run.started_at - ahead if run.started_at else None,
        exit_code=run.exit_code,
        exit_signal=run.exit_signal,
        cause=run.cause.text if run.cause else None,
        killed=run.killed_at is not None,
        stages=run.stages,
        limits_not_set=run.limits_not_set,
        simulated=run.simulated,
        at=run.at - ahead,
    )


_PRESENCE_TEXT = {
    known.Presence.ONLINE: "online",
    known.Presence.STALE: "stale: no sign of life for more than 10 s",
    known.Presence.OFFLINE: "offline",
    known.Presence.UNHEARD: "not heard yet",
}


def _show_gpu(
    node: str,
    gpu: known.GpuView,
    *,
    is_current: bool,
    ahead: timedelta,
    models: Mapping[str, str],
) -> Gpu:
    inventory, state, run = gpu.inventory, gpu.state, gpu.run
    holders = state.holders if state and is_current else ()
    return Gpu(
        gpu=gpu.gpu,
        node=node,
        index=gpu.index,
        name=inventory.name if inventory else None,
        model=names.short_model(inventory.name if inventory else None, models) or "unknown model",
        memory_total_bytes=inventory.memory_total_bytes if inventory else None,
        power_limit_watts=inventory.power_limit_watts if inventory else None,
        schedulable=gpu.is_usable,
        state=gpu.condition,
        since=state.since - ahead if state and is_current else None,
        summary=_summary(gpu, holders),
        reasons=state.reasons if state and is_current else (),
        holders=tuple(
            holder.model_copy(update={"started_at": holder.started_at - ahead})
            if holder.started_at
            else holder
            for holder in holders
        ),
        entry=run.entry if run and is_current else None,
        run=run.run if run and is_current else None,
        blockers=gpu.blockers,
        last=": ".join((state.state.value, *state.reasons[:1]))
        if state and not is_current
        else None,
    )


def _summary(gpu: known.GpuView, holders: tuple[Holder, ...]) -> str:
    match gpu.condition:
        case GpuCondition.IDLE:
            if not gpu.is_usable:
                return "its MIG devices are used instead"
            # A workload that has not opened the GPU yet, or never does.
            return f"free · {gpu.run.entry} runs" if gpu.run else "free"
        case GpuCondition.OURS:
            return gpu.run.entry if gpu.run else "a run of ours"
        case GpuCondition.BUSY | GpuCondition.HELD:
            counted = [one for one in holders if not (one.run or one.ignored)]
            if counted:
                first = counted[0]
                who = first.user or (f"user {first.user_id}" if first.user_id else "somebody")
                what = first.command or f"pid {first.pid}"
                more = f" +{len(counted) - 1}" if len(counted) > 1 else ""
                return f"{who} · {what}{more}"
    reasons = gpu.state.reasons if gpu.state and gpu.state.state is gpu.condition else ()
    return reasons[0] if reasons else "not known"


def _clock_ahead(node: known.NodeView) -> timedelta:
    """Return by how much the node's clock is ahead of ours, in whole seconds."""
    seconds = node.clock_ahead.total_seconds()
    return timedelta(seconds=round(seconds) if abs(seconds) > CLOCK_TOLERANCE_SECONDS else 0)


def _limitations(node: known.NodeView, ahead: timedelta) -> tuple[str, ...]:
    found = list(node.inventory.limitations) if node.inventory else []
    if ahead:
        found.append(f"{tell_clock(ahead)}; times are shown by ours")
    found += node.people.problems if node.people else ()
    if node.runner:
        found += node.runner.limitations
        found += node.runner.refusals
    for entry in node.catalogue.entries if node.catalogue else ():
        found += [f"workload {entry.name}: {problem}" for problem in entry.problems]
    return tuple(dict.fromkeys(found))


def _newest_first(run: Run) -> tuple[bool, float]:
    return run.state.is_final, -(run.started_at or run.at).timestamp()
