"""One node and its GPUs as values: the last facts, and what may be shown of them as current."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

from gleaner.bus.messages import (
    Availability,
    Beat,
    Blocker,
    Blockers,
    Catalogue,
    GpuCondition,
    GpuInventory,
    GpuReading,
    GpuState,
    Inventory,
    People,
    Run,
    RunnerState,
    Telemetry,
    WorkloadBlockers,
)
from gleaner.fleet.presence import STALE_SECONDS, Presence, is_within

DIVIDED = "divided"
"""What a GPU in MIG mode is that nobody uses: its instances are used instead."""


@dataclass(frozen=True, kw_only=True)
class GpuView:
    """One GPU with everything known about it; None where nothing is."""

    gpu: str
    index: int | None
    inventory: GpuInventory | None
    state: GpuState | None
    reading: GpuReading | None
    """None as well when the readings are stale, or older than the state."""
    condition: GpuCondition
    """What may be shown as current: `unknown` unless the node is online."""
    run: Run | None
    """Our run that has this GPU and is not over."""
    blockers: tuple[Blocker, ...] | None
    """Why nothing (more) starts here; None: the scheduler has not said."""

    @property
    def is_usable(self) -> bool:
        """Whether it counts as a GPU: one in MIG mode does not, its instances do.

        Who holds an instance may be listed on both, and no sum may have that twice.
        """
        return self.inventory is None or self.inventory.schedulable

    @property
    def word(self) -> str:
        """Return its condition in a word; `idle` would invite people to what only has parts."""
        is_divided = self.condition is GpuCondition.IDLE and not self.is_usable
        return DIVIDED if is_divided else self.condition.value


@dataclass(frozen=True, kw_only=True)
class NodeView:
    """One node: its last facts, when it was heard, and what follows from that."""

    node: str
    inventory: Inventory | None = None
    states: Mapping[str, GpuState] = field(default_factory=lambda: MappingProxyType({}))
    people: People | None = None
    telemetry: Telemetry | None = None
    catalogue: Catalogue | None = None
    runner: RunnerState | None = None
    blockers: Blockers | None = None
    runs: Mapping[str, Run] = field(default_factory=lambda: MappingProxyType({}))
    """All runs that have a fact, final ones included, until they are archived."""
    connections: Mapping[str, Availability] = field(default_factory=lambda: MappingProxyType({}))
    """By service: `node`, or `collector` and `runner` where they are apart."""
    offline_at: datetime | None = None
    """When we heard that the connection of the collector ended; None while it stands, or beats."""
    beat: Beat | None = None
    """The last live one."""
    beat_received_at: datetime | None = None

    def presence(self, now: datetime) -> Presence:
        """Return whether somebody looks at the node right now."""
        heard = self.beat_received_at
        if self.offline_at is not None:
            return Presence.OFFLINE
        if heard is None:
            return Presence.UNHEARD
        return Presence.ONLINE if is_within(heard, now, STALE_SECONDS) else Presence.STALE

    def age_seconds(self, now: datetime) -> float | None:
        """Return how long ago the last beat came; None if there was none."""
        heard = self.beat_received_at
        return None if heard is None else max(0.0, (now - heard).total_seconds())

    def node_time(self, now: datetime) -> datetime:
        """Return what the node's own clock shows at our `now` (ours, while it is unheard)."""
        if self.beat is None or self.beat_received_at is None:
            return now
        return self.beat.at + (now - self.beat_received_at)

    @property
    def clock_ahead(self) -> timedelta:
        """By how much the node's clock is ahead of ours, the way of its last beat included."""
        if self.beat is None or self.beat_received_at is None:
            return timedelta()
        return self.beat.at - self.beat_received_at

    def telemetry_age_seconds(self, now: datetime) -> float | None:
        """Return how old the readings are; None if there are none."""
        if self.telemetry is None:
            return None
        return max(0.0, (self.node_time(now) - self.telemetry.at).total_seconds())

    def current_telemetry(self, now: datetime) -> Telemetry | None:
        """Return the readings, unless they are stale."""
        age = self.telemetry_age_seconds(now)
        if self.telemetry is None or age is None or self.presence(now) is not Presence.ONLINE:
            return None
        return self.telemetry if age <= 3 * self.telemetry.interval_seconds else None

    def gpus(self, now: datetime) -> tuple[GpuView, ...]:
        """Return the node's GPUs in the order of their indices."""
        telemetry = self.current_telemetry(now)
        readings = {one.gpu: one for one in telemetry.gpus} if telemetry else {}
        inventories = {one.gpu: one for one in self.inventory.gpus} if self.inventory else {}
        reasons = {one.gpu: one.blockers for one in self.blockers.gpus} if self.blockers else {}
        holding = {gpu: run for run in self.live_runs() for gpu in run.gpus}
        is_online = self.presence(now) is Presence.ONLINE
        views = []
        # A GPU that the inventory no longer names is shown until its fact is cleared.
        for gpu in dict.fromkeys([*inventories, *self.states]):
            inventory, state = inventories.get(gpu), self.states.get(gpu)
            known = inventory or state
            reading = readings.get(gpu)
            # Since later than now: that node's clock was set back, and tells nothing of the order.
            if telemetry and state and telemetry.at < state.since <= self.node_time(now):
                reading = None  # what was read while somebody else had it
            views.append(
                GpuView(
                    gpu=gpu,
                    index=known.index if known else None,
                    inventory=inventory,
                    state=state,
                    reading=reading,
                    condition=state.state if state and is_online else GpuCondition.UNKNOWN,
                    run=holding.get(gpu),
                    blockers=reasons.get(gpu),
                )
            )
        return tuple(sorted(views, key=lambda view: (view.index or 0, view.gpu)))

    def live_runs(self) -> tuple[Run, ...]:
        """Return the runs that are not over."""
        return tuple(run for run in self.runs.values() if not run.state.is_final)

    def workloads(self) -> tuple[WorkloadBlockers, ...]:
        """Return what the scheduler says about each entry of the catalogue."""
        return self.blockers.workloads if self.blockers else ()

    @property
    def is_simulated(self) -> bool:
        """Whether this node does not really exist."""
        return self.inventory is not None and self.inventory.source == "simulated"

    @property
    def is_known(self) -> bool:
        """Whether more is known of it than the scheduler's word."""
        return bool(self.connections) or not self.is_empty

    @property
    def is_empty(self) -> bool:
        """Whether all its own facts were cleared: somebody removed the node."""
        return not (
            self.inventory
            or self.states
            or self.people
            or self.telemetry
            or self.catalogue
            or self.runner
            or self.runs
        )
