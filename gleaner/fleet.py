"""What is known of the fleet: deliveries folded into values, with the age of everything.

Pure and shared: the page, the command line and integrators see the same fleet by the same rules.
Feed every delivery of `FOLLOWED` into `Fleet.take` and read `Fleet.nodes`; or let `follow` do it.

Rules of age. A beat is the only proof that somebody looks at a node: facts are retained and may be
old. A node is `online` with a live beat within 10 s, `stale` with an older one, `offline` when its
connection ended (farewell or will) and no beat came since, and `unheard` when no live beat came
since we began to listen. Readings older than three of their intervals are stale as well. What is
stale is never current: `GpuView.condition` is then `unknown`, whatever the last fact says.

A node's clock may differ from ours. Its beats tell by how much, so instants of a node (`since`,
`at`) are compared with `NodeView.node_time(now)` and never with our own clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeVar

from gleaner import keeping
from gleaner.bus.interface import Bus, Delivery
from gleaner.bus.message import Message
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
    RecorderState,
    Run,
    RunnerState,
    SchedulerBeat,
    SchedulerState,
    Telemetry,
    WorkloadBlockers,
)

V = TypeVar("V")

STALE_SECONDS = 10.0
"""A node whose last beat is older is stale."""
SCHEDULER_STALE_SECONDS = 15.0
"""Three of the scheduler's beats."""
CLOCK_STEP = timedelta(seconds=1)
"""Beats do not differ by more on their way."""
NODE_SERVICES = frozenset({"node", "collector", "runner"})
EVERYTHING = "*"
"""In what `Fleet.take` returns: something that belongs to no single node changed."""

FOLLOWED: tuple[type[Message], ...] = (
    Availability,
    Beat,
    Blockers,
    Catalogue,
    GpuState,
    Inventory,
    People,
    RecorderState,
    Run,
    RunnerState,
    SchedulerBeat,
    SchedulerState,
    Telemetry,
)
"""All kinds of messages that a `Fleet` is made of."""


class Presence(StrEnum):
    """Whether somebody looks at a node right now."""

    ONLINE = "online"
    STALE = "stale"
    """No beat for 10 s: the last facts are old."""
    OFFLINE = "offline"
    """Its connection ended and nothing came since."""
    UNHEARD = "unheard"
    """Retained facts only, since we began to listen."""


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
        return Presence.ONLINE if _is_within(heard, now, STALE_SECONDS) else Presence.STALE

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


@dataclass(frozen=True, kw_only=True)
class FleetView:
    """The fleet at one moment; a value."""

    nodes: Mapping[str, NodeView]
    """By id, sorted."""
    scheduler: SchedulerState | None
    scheduler_beat_received_at: datetime | None
    services: Mapping[tuple[str, str], Availability]
    """Everybody's last word on being there, by service and instance."""
    at: datetime
    recorder: RecorderState | None = None
    history_problem: str | None = None
    """Why history is not kept just now, or not all of it; None: nothing is known to be wrong."""

    def has_scheduler(self) -> bool:
        """Return whether a scheduler beats; without one nothing new starts."""
        return _beats(self.scheduler_beat_received_at, self.at)


class Fleet:
    """Folds deliveries into what is known; holds values only, so that a view never changes."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeView] = {}
        self._services: dict[tuple[str, str], Availability] = {}
        self._scheduler: SchedulerState | None = None
        self._recorder: RecorderState | None = None
        self._scheduler_heard: datetime | None = None

    @property
    def nodes(self) -> Mapping[str, NodeView]:
        """All nodes by id, sorted; those of which more is known than the scheduler's word."""
        return MappingProxyType(
            {name: view for name, view in sorted(self._nodes.items()) if view.is_known}
        )

    def node(self, node: str) -> NodeView | None:
        """Return one node, or None if nothing is known of it."""
        view = self._nodes.get(node)
        return view if view is not None and view.is_known else None

    @property
    def scheduler(self) -> SchedulerState | None:
        """What the scheduler said last: pauses, drains, idle GPUs by model."""
        return self._scheduler

    @property
    def recorder(self) -> RecorderState | None:
        """What the recorder said last of its database."""
        return self._recorder

    @property
    def history_problem(self) -> str | None:
        """Why history is not kept just now, or not all of it, in words."""
        said = (one for (service, _), one in self._services.items() if service == "recorder")
        return keeping.problem_of(self._recorder, said)

    def has_scheduler(self, now: datetime) -> bool:
        """Return whether a scheduler beats; without one nothing new starts."""
        return _beats(self._scheduler_heard, now)

    def snapshot(self, now: datetime) -> FleetView:
        """Return everything as one value."""
        return FleetView(
            nodes=self.nodes,
            scheduler=self._scheduler,
            scheduler_beat_received_at=self._scheduler_heard,
            services=MappingProxyType(dict(sorted(self._services.items()))),
            at=now,
            recorder=self._recorder,
            history_problem=self.history_problem,
        )

    def take(self, delivery: Delivery, now: datetime) -> set[str]:
        """Take in one delivery; return the ids of nodes that changed, or `EVERYTHING`.

        A beat changes a node only when it was not online before, or when a clock was set; ages go
        on by themselves.
        """
        kind = delivery.message_type
        if kind is Availability:
            return self._take_availability(delivery, now)
        if kind is SchedulerState:
            message = delivery.message
            self._scheduler = message if isinstance(message, SchedulerState) else None
            return {EVERYTHING}
        if kind is RecorderState:
            said = delivery.message
            self._recorder = said if isinstance(said, RecorderState) else None
            return {EVERYTHING}
        if kind is SchedulerBeat:
            had = self.has_scheduler(now)
            self._scheduler_heard = now
            return set() if had else {EVERYTHING}
        if kind not in FOLLOWED:
            return set()
        return self._take_fact(delivery, now)

    def _take_fact(self, delivery: Delivery, now: datetime) -> set[str]:
        name = delivery.levels["node"]
        before = self._nodes.get(name) or NodeView(node=name)
        if delivery.message_type is Beat:
            # Beats are never retained; a broker's bridge that retains one must not revive a node.
            if not isinstance(delivery.message, Beat) or delivery.retained:
                return set()
            # A will of an older connection may come late and stay retained: a beat disproves it.
            after = replace(before, beat=delivery.message, beat_received_at=now, offline_at=None)
            self._nodes[name] = after
            was_set = abs(after.clock_ahead - before.clock_ahead) > CLOCK_STEP
            return {name} if was_set or before.presence(now) is not Presence.ONLINE else set()
        after = _with_fact(before, delivery)
        if after == before:
            return set()
        # Retained facts come in any order: blockers may be here before anything of the node.
        if after.is_empty and delivery.message is None:
            self._nodes.pop(name, None)
        else:
            self._nodes[name] = after
        return {name}

    def _take_availability(self, delivery: Delivery, now: datetime) -> set[str]:
        service, instance = delivery.levels["service"], delivery.levels["instance"]
        said = delivery.message
        last = self._services.get((service, instance))
        if isinstance(said, Availability):
            if is_of_older_connection(said, last):
                return set()
            self._services[service, instance] = said
        else:
            self._services.pop((service, instance), None)
        if service not in NODE_SERVICES:
            return {EVERYTHING}
        view = self._nodes.get(instance) or NodeView(node=instance)
        connections = dict(view.connections)
        if isinstance(said, Availability):
            connections[service] = said
        else:
            connections.pop(service, None)
        view = replace(view, connections=MappingProxyType(connections))
        if service != "runner":
            is_offline = isinstance(said, Availability) and said.state == "offline"
            view = replace(view, offline_at=now if is_offline else None)
        if view.is_empty and not connections:
            self._nodes.pop(instance, None)
        else:
            self._nodes[instance] = view
        return {instance}


def follow(
    bus: Bus,
    fleet: Fleet,
    changed: Callable[[set[str]], None] | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Subscribe a fleet to everything it is made of; tell somebody what changed."""

    def take(delivery: Delivery) -> None:
        nodes = fleet.take(delivery, clock())
        if changed is not None and nodes:
            changed(nodes)

    for message_type in FOLLOWED:
        bus.subscribe(message_type, take)


def is_of_older_connection(said: Availability, last: Availability | None) -> bool:
    """Whether this is the late will of a connection that a newer one has replaced."""
    return (
        said.state == "offline"
        and last is not None
        and last.state == "online"
        and said.connection != last.connection
    )


def _beats(scheduler_heard: datetime | None, now: datetime) -> bool:
    heard = scheduler_heard
    return heard is not None and _is_within(heard, now, SCHEDULER_STALE_SECONDS)


def _is_within(heard: datetime, now: datetime, seconds: float) -> bool:
    """Whether something was heard lately; our own clock set back since counts as not."""
    return 0 <= (now - heard).total_seconds() <= seconds


def _with_fact(view: NodeView, delivery: Delivery) -> NodeView:
    message, levels = delivery.message, delivery.levels
    kind = delivery.message_type
    if kind is GpuState:
        state = message if isinstance(message, GpuState) else None
        return replace(view, states=_put(view.states, levels["gpu"], state))
    if kind is Run:
        run = message if isinstance(message, Run) else None
        return replace(view, runs=_put(view.runs, levels["run"], run))
    change: dict[str, Any] = {_FIELDS[kind]: message}
    return replace(view, **change)


_FIELDS: dict[type[Message], str] = {
    Blockers: "blockers",
    Catalogue: "catalogue",
    Inventory: "inventory",
    People: "people",
    RunnerState: "runner",
    Telemetry: "telemetry",
}


def _put(values: Mapping[str, V], key: str, value: V | None) -> Mapping[str, V]:
    after = {name: one for name, one in values.items() if name != key}
    if value is not None:
        after[key] = value
    return MappingProxyType(after)
