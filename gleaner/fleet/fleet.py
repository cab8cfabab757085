"""The fleet: what each node, the scheduler and the recorder said last, folded as it is heard."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from gleaner import keeping
from gleaner.bus.interface import Bus, Delivery
from gleaner.bus.message import Message
from gleaner.bus.messages import (
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
from gleaner.fleet import fold
from gleaner.fleet.node import NodeView
from gleaner.fleet.presence import (
    NODE_SERVICES,
    Presence,
    is_of_older_connection,
    scheduler_beats,
)

CLOCK_STEP = timedelta(seconds=1)
"""Beats do not differ by more on their way."""
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
        return scheduler_beats(self.scheduler_beat_received_at, self.at)


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
        return scheduler_beats(self._scheduler_heard, now)

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
        if kind is Beat:
            return self._take_beat(delivery, now)
        return self._take_fact(delivery) if kind in FOLLOWED else set()

    def _take_beat(self, delivery: Delivery, now: datetime) -> set[str]:
        name, beat = delivery.levels["node"], delivery.message
        # Beats are never retained; a broker's bridge that retains one must not revive a node.
        if not isinstance(beat, Beat) or delivery.retained:
            return set()
        before = self._nodes.get(name) or NodeView(node=name)
        after = self._nodes[name] = fold.with_beat(before, beat, now)
        was_set = abs(after.clock_ahead - before.clock_ahead) > CLOCK_STEP
        return {name} if was_set or before.presence(now) is not Presence.ONLINE else set()

    def _take_fact(self, delivery: Delivery) -> set[str]:
        name = delivery.levels["node"]
        before = self._nodes.get(name) or NodeView(node=name)
        after = fold.with_fact(before, delivery)
        if after == before:
            return set()
        # Retained facts come in any order: blockers may be here before anything of the node.
        return self._keep(after, forget=after.is_empty and delivery.message is None)

    def _take_availability(self, delivery: Delivery, now: datetime) -> set[str]:
        service, instance = delivery.levels["service"], delivery.levels["instance"]
        said = delivery.message if isinstance(delivery.message, Availability) else None
        if said is None:
            self._services.pop((service, instance), None)
        elif is_of_older_connection(said, self._services.get((service, instance))):
            return set()
        else:
            self._services[service, instance] = said
        if service not in NODE_SERVICES:
            return {EVERYTHING}
        before = self._nodes.get(instance) or NodeView(node=instance)
        after = fold.with_connection(before, service, said, now)
        return self._keep(after, forget=not after.is_known)

    def _keep(self, view: NodeView, *, forget: bool) -> set[str]:
        if forget:
            self._nodes.pop(view.node, None)
        else:
            self._nodes[view.node] = view
        return {view.node}


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
