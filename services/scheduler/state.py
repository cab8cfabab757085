"""What the scheduler knows and has decided: frozen values, replaced and never changed.

Instants are the scheduler's own clock, except where a comment says that they are the node's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeVar

from gleaner.bus.message import Utc, Value
from gleaner.bus.messages import (
    Availability,
    Beat,
    Blockers,
    Catalogue,
    DesiredBody,
    Drain,
    GpuCondition,
    GpuInventory,
    GpuState,
    Grant,
    Inventory,
    Pause,
    People,
    Response,
    Run,
    RunnerState,
    RunState,
    SchedulerState,
)

FRESH_SECONDS = 5.0
"""A node whose last beat is older is not decided for: nobody may be looking."""

CALM = frozenset({GpuCondition.IDLE, GpuCondition.OURS})
"""No stranger is there."""
LEAVING = frozenset({RunState.STOPPING, RunState.KILLING, RunState.CLEARING})
"""Runs that are on their way out."""

V = TypeVar("V")


def nothing() -> Mapping[str, Any]:
    """Return an empty mapping that cannot be changed."""
    return MappingProxyType({})


def put(values: Mapping[str, V], key: str, value: V | None) -> Mapping[str, V]:
    """Return a mapping with one value replaced, or removed by None."""
    after = dict(values)
    if value is None:
        after.pop(key, None)
    else:
        after[key] = value
    return MappingProxyType(after)


class Crash(Value):
    """How often one entry ended by itself at one place: what the next start there waits for."""

    node: str
    entry: str
    gpus: tuple[str, ...]
    digest: str
    """Of the entry that ended; another digest is another chance."""
    endings: int = 0
    """In a row, exit code 0 as well; each doubles the wait."""
    failures: int = 0
    """In a row, exit code 0 ends the row; too many and the entry is held."""
    last: str = ""
    """How it ended last, in words: `"exit code 1"`."""
    last_run: str = ""
    """The run counted last, so that its fact is counted once."""
    not_before: Utc
    held: bool = False

    @property
    def place(self) -> Place:
        """Where this counts."""
        return self.node, self.entry, self.gpus


Place = tuple[str, str, tuple[str, ...]]
"""Node, entry and GPUs."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node: its facts, as far as they were heard, and what was decided for it."""

    node: str
    inventory: Inventory | None = None
    catalogue: Catalogue | None = None
    runner: RunnerState | None = None
    people: People | None = None
    gpus: Mapping[str, GpuState] = field(default_factory=nothing)
    quiet_since: Mapping[str, datetime] = field(default_factory=nothing)
    """GPU to when a stranger was last there, or a run of ours was evicted; the node's clock."""
    runs: Mapping[str, Run] = field(default_factory=nothing)
    archived: frozenset[str] = frozenset()
    """Runs whose facts were cleared, while the runner may still name them."""
    connections: Mapping[str, Availability] = field(default_factory=nothing)
    offline: frozenset[str] = frozenset()
    """Connections that ended and from which nothing came since."""
    beat: Beat | None = None
    beat_received_at: datetime | None = None
    was_fresh: bool = False
    """Whether beats came when it was decided for last."""
    live_since: datetime | None = None
    """Since when everything needed was heard and beats come; None while it is not so."""
    taken_over: DesiredBody | None = None
    """What an earlier scheduler with our key wished for, until we have spoken ourselves."""
    grants: tuple[Grant, ...] = ()
    generation: int = 0
    """Of our last wish; 0: we have not spoken to this node in our term."""
    contradicted: bool = False
    """Somebody overwrote our wish: say it again."""
    blockers: Blockers | None = None
    """As last published."""
    idle_by_model: Mapping[str, int] = field(default_factory=nothing)
    wake_at: datetime | None = None
    """When time alone may change a decision."""

    @property
    def schedulable(self) -> tuple[GpuInventory, ...]:
        """The GPUs that can be used, by index; not the parents of MIG devices."""
        gpus = self.inventory.gpus if self.inventory else ()
        return tuple(sorted((g for g in gpus if g.schedulable), key=lambda g: (g.index, g.gpu)))

    @property
    def live_runs(self) -> tuple[Run, ...]:
        """Runs that are not over, wanted or not."""
        return tuple(run for run in self.runs.values() if not run.state.is_final)

    @property
    def missing_connection(self) -> str | None:
        """Which connection of the node ended (`node`, `collector`, `runner`), or None."""
        if "node" in self.connections and "node" not in self.offline:
            return None  # one process has it all; what ran apart before does not matter
        for service in ("collector", "runner"):
            if service in self.offline:
                return service
        is_apart = {"collector", "runner"} <= self.connections.keys()
        return "node" if "node" in self.offline and not is_apart else None

    @property
    def unheard(self) -> str | None:
        """What of the node was not heard yet, in words; None when all is known."""
        if self.inventory is None:
            return "its inventory"
        if self.catalogue is None:
            return "its catalogue"
        if self.runner is None:
            return "its runner"
        known = self.runs.keys() | self.archived
        missing = [run for run in self.runner.runs if run not in known]
        return f"the fact of run {', '.join(missing)}" if missing else None

    def is_live(self, now: datetime) -> bool:
        """Whether all that a decision needs was heard, and somebody looks right now."""
        return self.is_fresh(now) and self.missing_connection is None and self.unheard is None

    def is_fresh(self, now: datetime) -> bool:
        """Whether a beat came within the last 5 s; our clock set back counts as none."""
        heard = self.beat_received_at
        return heard is not None and 0 <= (now - heard).total_seconds() <= FRESH_SECONDS

    def time(self, now: datetime) -> datetime:
        """Return what the node's own clock shows at our `now`, however wrong it is."""
        if self.beat is None or self.beat_received_at is None:
            return now
        return self.beat.at + (now - self.beat_received_at)

    def taken(self) -> dict[str, str]:
        """Return GPU to the run of ours that has it: granted, or not over yet."""
        by_run = {gpu: run.run for run in self.live_runs for gpu in run.gpus}
        by_grant = {gpu: grant.run for grant in self.grants for gpu in grant.gpus}
        return by_run | by_grant

    def ended(self, grant: Grant) -> Run | None:
        """Return the fact of a granted run that is over, or None while it is not."""
        run = self.runs.get(grant.run)
        return run if run is not None and run.state.is_final else None


@dataclass(frozen=True, kw_only=True)
class State:
    """Everything; term 0 means that the scheduler has not begun to decide."""

    now: datetime
    term: int = 0
    highest_term: int = 0
    """The highest ever heard of, from whomever."""
    rival: str | None = None
    """Another scheduler with a claim as good as ours or better; we must stop."""
    counter: int = 0
    """Of run ids in this term."""
    generation: int = 0
    """Of wishes in this term, over all nodes."""
    settles_at: datetime | None = None
    """When the facts retained at the broker have arrived; None: there is no broker."""
    is_settled: bool = False
    nodes: Mapping[str, Node] = field(default_factory=nothing)
    touched: frozenset[str] = frozenset()
    """Nodes to decide for anew."""
    forgotten: frozenset[str] = frozenset()
    """Nodes that were removed: what we said of them goes too."""
    crashes: Mapping[Place, Crash] = field(default_factory=lambda: MappingProxyType({}))
    pauses: tuple[Pause, ...] = ()
    drains: tuple[Drain, ...] = ()
    answered: Mapping[str, Response] = field(default_factory=nothing)
    """By request id: a request that comes twice is answered twice and done once."""
    said: SchedulerState | None = None
    """As last published."""
    counted_at: datetime | None = None
    """When idle GPUs were counted last: once a second is enough for a thousand nodes."""
