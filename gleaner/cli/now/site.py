"""What the static page says: each host's GPUs as free, on demand or occupied, and by whom.

A host that is silent keeps its card with what was last known, marked as the past; the table for
programs leaves it out, because a reader of that cannot see an age.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gleaner import names
from gleaner.bus.messages import GpuCondition, GpuReading, GpuState, Holder
from gleaner.cli.now.users import NOTHING_ELSE
from gleaner.fleet import FleetView, GpuView, NodeView, Presence

LOAD_PERCENT = 5.0
"""From this utilization on a GPU is not free, whoever it may be."""
ACTIVITY_PERCENT = 2.0
"""Above this activity of the memory controller neither."""
COLUMNS = ("", "load", "load_mem", "gpu_idx", "gpu_name", "gpu_uuid", "hostname", "username")
"""As Web-GPU-Monitor writes them: the first is the row's number on its host, from 0."""


class Verdict(StrEnum):
    """The one word for somebody who looks for a GPU."""

    FREE = "free"
    ON_DEMAND = "on demand"
    """Only our runs have it: they leave when somebody comes."""
    OCCUPIED = "occupied"
    LOST = "lost"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One GPU."""

    index: int | None
    gpu: str
    name: str | None
    """As the driver says it."""
    model: str
    verdict: Verdict
    load_percent: float | None
    activity_percent: float | None
    """Of the memory controller; not memory in use."""
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    holders: tuple[str, ...]
    """Users, one entry for each process; empty for a free GPU."""
    reasons: tuple[str, ...]

    @property
    def users(self) -> str:
        """Everybody once, with the number of processes: `alice (2), bob`."""
        return ", ".join(
            f"{user} ({number})" if number > 1 else user
            for user, number in Counter(self.holders).items()
        )

    @property
    def memory(self) -> str:
        """Memory in use: `63,898 MiB (78 %)`; a dash if nobody knows."""
        if self.memory_used_bytes is None:
            return "–"
        used = f"{self.memory_used_bytes / 2**20:,.0f} MiB"
        if not self.memory_total_bytes:
            return used
        return f"{used} ({100 * self.memory_used_bytes / self.memory_total_bytes:.0f} %)"


@dataclass(frozen=True, kw_only=True)
class Card:
    """One host."""

    name: str
    presence: Presence
    simulated: bool
    updated_at: datetime | None
    """When something of it was heard last, by our clock; None if there is nothing."""
    lines: tuple[Line, ...]

    @property
    def full_model(self) -> str | None:
        """The one model's name as the driver says it."""
        return self.lines[0].name if self.model else None

    @property
    def model(self) -> str | None:
        """What all its GPUs are called; None where they differ, and where there are none."""
        called = {line.model for line in self.lines}
        return called.pop() if len(called) == 1 else None

    @property
    def is_current(self) -> bool:
        """Whether this is how it is, and not how it was."""
        return self.presence is Presence.ONLINE


def cards(view: FleetView, called: names.Called = NOTHING_ELSE) -> list[Card]:
    """Return all hosts by name, their GPUs by index."""
    short = names.short_hosts(view.nodes.values(), called.nodes)
    found = [
        Card(
            name=short[node.node],
            presence=node.presence(view.at),
            simulated=node.is_simulated,
            updated_at=_updated_at(node, view.at),
            lines=tuple(_lines(node, view.at, called)),
        )
        for node in view.nodes.values()
    ]
    return sorted(found, key=lambda card: (card.name.lower(), card.name))


def rows(view: FleetView) -> list[tuple[object, ...]]:
    """Return one row for each GPU of which something is known now, in the order of COLUMNS."""
    hosts = sorted(view.nodes.values(), key=lambda node: (names.host(node), node.node))
    return [
        (
            number,
            _number(line.load_percent),
            _number(line.activity_percent),
            line.index,
            # Names and UUIDs begin with a space, as nvidia-smi leaves it behind each comma.
            f" {line.name or 'unknown'}{' (simulated)' if node.is_simulated else ''}",
            f" {line.gpu}",
            names.host(node),
            ", ".join(line.holders),
        )
        for node in hosts
        for number, line in enumerate(_lines_with_a_load(node, view.at))
    ]


def _lines_with_a_load(node: NodeView, now: datetime) -> Iterator[Line]:
    """Yield what is known now: a reader of old would take the others for free."""
    if node.presence(now) is Presence.ONLINE:
        for line in _lines(node, now, NOTHING_ELSE):
            if line.verdict not in (Verdict.UNKNOWN, Verdict.LOST):
                yield line


def counts(found: Sequence[Card]) -> list[tuple[Verdict, int]]:
    """Return how many GPUs there are of each kind now, the silent hosts' as unknown."""
    number = Counter(
        line.verdict if card.is_current else Verdict.UNKNOWN
        for card in found
        for line in card.lines
    )
    return [(verdict, number[verdict]) for verdict in Verdict if number[verdict]]


def judge(
    condition: GpuCondition, load: float | None, activity: float | None, *, is_held: bool
) -> Verdict:
    """Say what a GPU is to somebody who looks for one."""
    match condition:
        case GpuCondition.OURS:
            return Verdict.ON_DEMAND
        case GpuCondition.LOST:
            return Verdict.LOST
        case GpuCondition.UNKNOWN:
            return Verdict.UNKNOWN
        case GpuCondition.IDLE if not is_held:
            is_working = (load or 0) >= LOAD_PERCENT or (activity or 0) > ACTIVITY_PERCENT
            return Verdict.OCCUPIED if is_working else Verdict.FREE
        case _:
            return Verdict.OCCUPIED


def _lines(node: NodeView, now: datetime, called: names.Called) -> Iterator[Line]:
    for gpu in node.gpus(now):
        if gpu.is_usable:
            yield _line(node, gpu, now, called)


def _line(node: NodeView, gpu: GpuView, now: datetime, called: names.Called) -> Line:
    state, reading = gpu.state, gpu.reading
    condition = gpu.condition
    if node.presence(now) is not Presence.ONLINE:
        reading = _last_reading(node, gpu)
        condition = state.state if state else GpuCondition.UNKNOWN
    load = reading.utilization_percent if reading else None
    activity = reading.memory_utilization_percent if reading else None
    people = [one for one in (state.holders if state else ()) if _counts(one)]
    verdict = judge(condition, load, activity, is_held=bool(people))
    total = gpu.inventory.memory_total_bytes if gpu.inventory else None
    return Line(
        index=gpu.index,
        gpu=gpu.gpu,
        name=gpu.inventory.name if gpu.inventory else None,
        model=names.model(gpu, called.models),
        verdict=verdict,
        load_percent=load,
        activity_percent=activity,
        memory_used_bytes=reading.memory_used_bytes if reading else None,
        memory_total_bytes=(reading.memory_total_bytes if reading else None) or total,
        holders=_holders(verdict, people, gpu),
        reasons=_reasons(verdict, state),
    )


def _counts(holder: Holder) -> bool:
    return holder.run is None and holder.ignored is None


def _holders(verdict: Verdict, people: Sequence[Holder], gpu: GpuView) -> tuple[str, ...]:
    match verdict:
        case Verdict.OCCUPIED:
            return tuple(names.user(one) for one in people) or ("unknown",)
        case Verdict.ON_DEMAND:
            return (f"gleaner: {gpu.run.entry}" if gpu.run else "gleaner",)
        case _:
            return ()


def _reasons(verdict: Verdict, state: GpuState | None) -> tuple[str, ...]:
    return () if verdict is Verdict.FREE or state is None else state.reasons


def _last_reading(node: NodeView, gpu: GpuView) -> GpuReading | None:
    if node.telemetry is None or (gpu.state and node.telemetry.at < gpu.state.since):
        return None
    return next((one for one in node.telemetry.gpus if one.gpu == gpu.gpu), None)


def _updated_at(node: NodeView, now: datetime) -> datetime | None:
    if node.beat_received_at is not None:
        return node.beat_received_at
    said = [state.at for state in node.states.values()]
    said += [fact.at for fact in (node.telemetry, node.people, node.inventory) if fact]
    # Never heard, so its clock is all we have; it may be ahead of ours.
    return min(max(said), now) if said else None


def _number(value: float | None) -> float | int | None:
    return int(value) if value is not None and value == int(value) else value
