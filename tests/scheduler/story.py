"""Tell the scheduler a story, and read what it knows and said."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, TypeVar

from gleaner.bus.interface import Delivery
from gleaner.bus.message import Message
from gleaner.bus.messages import (
    Availability,
    Beat,
    Blocker,
    Blockers,
    Catalogue,
    CatalogueEntry,
    DesiredBody,
    GpuCondition,
    GpuInventory,
    GpuState,
    Grant,
    Inventory,
    People,
    Request,
    RequestKind,
    Response,
    Run,
    RunnerState,
    RunState,
    SchedulerState,
)
from gleaner.settings import SchedulerSettings
from services.scheduler.events import (
    Connected,
    Disconnected,
    Event,
    Heard,
    HeardRival,
    HeardWish,
    Said,
    Superseded,
    Tick,
)
from services.scheduler.memory import Memory, memory_of, remembered
from services.scheduler.state import Node, State
from services.scheduler.step import step
from tests.builders import NOW

POLICY = SchedulerSettings()

M = TypeVar("M")


def gpu_name(index: int) -> str:
    return f"GPU-{index}"


def entry(
    name: str = "fold",
    gpus: Literal["each", "all"] | tuple[int, ...] = "each",
    *,
    digest: str = "d1",
    problems: tuple[str, ...] = (),
    kind: Literal["filler", "job"] = "filler",
) -> CatalogueEntry:
    return CatalogueEntry(
        name=name, kind=kind, gpus=gpus, digest=digest, grace_seconds=5, problems=problems
    )


@dataclass
class World:
    """A node that behaves (it beats, and starts nothing by itself), and a scheduler beside it."""

    gpus: int = 1
    node: str = "n1"
    entries: tuple[CatalogueEntry, ...] = (entry(),)
    skew: float = 0
    policy: SchedulerSettings = POLICY
    memory: Memory = field(default_factory=Memory)
    now: datetime = NOW
    beating: bool = True
    collector_started_at: datetime | None = None
    obeying: bool = True
    """Whether the node begins what it is granted."""
    states: dict[int, GpuState] = field(default_factory=dict)
    people: People | None = None
    runs: dict[str, Run] = field(default_factory=dict)
    runner_says: dict[str, object] = field(default_factory=dict)
    """What the runner says otherwise than usual."""
    said: list[Said] = field(default_factory=list)
    sequence: int = 0
    beat_at: datetime = NOW

    def __post_init__(self) -> None:
        self.state: State = remembered(self.memory, self.now)

    # What happens.

    def happen(self, event: Event) -> list[Said]:
        self.state, said = step(self.state, event, self.policy)
        self.said += said
        if self.obeying:
            for body in list(said):
                if isinstance(body, DesiredBody) and body.node == self.node:
                    self._obey(body)
        return said

    def hear(self, message: Message, *, retained: bool = False) -> None:
        self.happen(
            Heard(
                delivery=Delivery(
                    message_type=type(message),
                    levels=message.levels(),
                    message=message,
                    retained=retained,
                ),
                at=self.now,
            )
        )

    def clear(self, message: Message) -> None:
        self.happen(
            Heard(
                delivery=Delivery(
                    message_type=type(message),
                    levels=message.levels(),
                    message=None,
                    retained=False,
                ),
                at=self.now,
            )
        )

    def tick(self, seconds: float = 1) -> None:
        """Let time go by, second by second; the node beats as long as it does."""
        end = self.now + timedelta(seconds=seconds)
        while self.now < end:
            self.now = min(end, self.now + timedelta(seconds=1))
            if self.beating:
                self.beat()
            self.happen(Tick(at=self.now))

    def start(self) -> None:
        """Connect, hear the facts that are retained, and settle."""
        self.happen(Connected(at=self.now))
        self.facts()
        self.tick(2)

    def restart(self, **kept: object) -> None:
        """End the scheduler and start it anew with what it kept; the node goes on."""
        last = self.wishes[-1] if self.wishes else None
        self.memory = memory_of(self.state).model_copy(update=kept)
        self.state = remembered(self.memory, self.now)
        self.said = []
        self.happen(Connected(at=self.now))
        if last is not None:
            self.happen(HeardWish(body=last, at=self.now))
        self.facts(retained=True)
        self.tick(2)

    def lose_the_broker(self) -> None:
        self.happen(Disconnected(at=self.now))

    # What the node says.

    @property
    def node_now(self) -> datetime:
        return self.now + timedelta(seconds=self.skew)

    def beat(self) -> None:
        self.beat_at = self.now
        self.hear(self.a_beat())

    def a_beat(self) -> Beat:
        self.sequence += 1
        return Beat(
            node=self.node,
            sequence=self.sequence,
            check_seconds=0.01,
            started_at=self.collector_started_at,
            at=self.node_now,
        )

    def facts(self, *, retained: bool = False) -> None:
        for message in self.facts_of_a_start():
            self.hear(message, retained=retained)

    def facts_of_a_start(self) -> Iterable[Message]:
        yield self.inventory()
        yield self.catalogue()
        for index in range(self.gpus):
            yield self.states.get(index) or self._gpu(index, GpuCondition.IDLE, 3600)
        yield self.people or self._people()
        yield from self.runs.values()
        yield self.runner()

    def inventory(self, **change: object) -> Inventory:
        gpus = tuple(
            GpuInventory(gpu=gpu_name(index), index=index, name="H100")
            for index in range(self.gpus)
        )
        inventory = Inventory(
            node=self.node,
            host=self.node,
            boot_id="b1",
            agent_version="1",
            source="simulated",
            gpus=gpus,
            notices_opens_by="script",
            notices_people_by="script",
            at=self.node_now,
        )
        return inventory.model_copy(update=change)

    def catalogue(self) -> Catalogue:
        return Catalogue(node=self.node, entries=self.entries, at=self.node_now)

    def runner(self, **change: object) -> RunnerState:
        runner = RunnerState(
            node=self.node,
            paused=False,
            watched=True,
            term=self.state.term or None,
            generation=None,
            lease="held",
            runs=tuple(self.runs),
            at=self.node_now,
        )
        return runner.model_copy(update=self.runner_says | change)

    def idle(self, index: int = 0, for_seconds: float = 0) -> None:
        self.states[index] = self._gpu(index, GpuCondition.IDLE, for_seconds)
        self.hear(self.states[index])

    def becomes(self, condition: GpuCondition, index: int = 0, reason: str = "") -> None:
        self.states[index] = self._gpu(index, condition, 0, reason)
        self.hear(self.states[index])

    def busy(self, index: int = 0, reason: str = "user1 computes (pid 4711, python)") -> None:
        self.becomes(GpuCondition.BUSY, index, reason)

    def owner(self, *, active: bool = True) -> None:
        self.people = self._people(active=active)
        self.hear(self.people)

    def connection(self, state: Literal["online", "offline"], name: str = "a") -> None:
        self.hear(
            Availability(
                service="node",
                instance=self.node,
                state=state,
                connection=name,
                version="1",
                at=None,
            )
        )

    def run_ends(
        self, run: str, state: RunState, *, lasted: float = 1, exit_code: int | None = None
    ) -> None:
        before = self.runs[run]
        self.runs[run] = before.model_copy(
            update={
                "state": state,
                "reason": f"{state.value}",
                "exit_code": exit_code,
                "started_at": self.node_now - timedelta(seconds=lasted),
                "exited_at": self.node_now,
                "at": self.node_now,
            }
        )
        self.hear(self.runs[run])

    def run_begins(self, grant: Grant, state: RunState = RunState.RUNNING) -> None:
        self.runs[grant.run] = Run(
            node=self.node,
            run=grant.run,
            entry=grant.entry,
            digest=grant.digest,
            gpus=grant.gpus,
            state=state,
            reason=state.value,
            term=self.state.term,
            started_at=self.node_now,
            at=self.node_now,
        )
        self.hear(self.runs[grant.run])
        self.hear(self.runner())

    def request(self, kind: RequestKind, *, id: str = "", **fields: object) -> Response:  # noqa: A002
        self.sequence += 1
        request = Request.model_validate(
            {
                "kind": kind,
                "id": id or f"r{self.sequence}",
                "client": "c1",
                "by": "alice",
                "expires_at": self.now + timedelta(seconds=10),
                "at": self.now,
                **fields,
            }
        )
        self.hear(request)
        return self.responses[-1]

    def rival_beats(self, term: int, *, key: str | None = None) -> None:
        self.happen(HeardRival(term=term, key=key, at=self.now))

    # What the scheduler says.

    def all_said(self, kind: type[M]) -> list[M]:
        return [one for one in self.said if isinstance(one, kind)]

    @property
    def wishes(self) -> list[DesiredBody]:
        return self.all_said(DesiredBody)

    @property
    def responses(self) -> list[Response]:
        return self.all_said(Response)

    @property
    def superseded(self) -> list[Superseded]:
        return self.all_said(Superseded)

    @property
    def fleet(self) -> SchedulerState:
        return self.all_said(SchedulerState)[-1]

    @property
    def known(self) -> Node:
        return self.state.nodes[self.node]

    @property
    def granted(self) -> list[tuple[str, tuple[str, ...]]]:
        """Entry and GPUs of all that is wished for now."""
        return [(grant.entry, grant.gpus) for grant in self.known.grants]

    @property
    def run_ids(self) -> list[str]:
        return [grant.run for grant in self.known.grants]

    @property
    def ever_granted(self) -> set[str]:
        return {grant.run for wish in self.wishes for grant in wish.runs}

    @property
    def blockers(self) -> Blockers:
        return self.all_said(Blockers)[-1]

    def why(self, index: int = 0) -> list[tuple[str, str]]:
        """Code and text of what is against using a GPU."""
        (found,) = [one for one in self.blockers.gpus if one.gpu == gpu_name(index)]
        return _words(found.blockers)

    def why_not(self, name: str = "fold") -> list[tuple[str, str]]:
        """Code and text of what is against a workload."""
        (found,) = [one for one in self.blockers.workloads if one.entry == name]
        return _words(found.blockers)

    # Inside.

    def _gpu(
        self, index: int, condition: GpuCondition, for_seconds: float, reason: str = ""
    ) -> GpuState:
        return GpuState(
            node=self.node,
            gpu=gpu_name(index),
            index=index,
            state=condition,
            since=self.node_now - timedelta(seconds=for_seconds),
            reasons=(reason,) if reason else (),
            at=self.node_now,
        )

    def _people(self, *, active: bool = False) -> People:
        return People(
            node=self.node,
            watched=True,
            active=active,
            reason="user1 is active at pts/3" if active else "nobody is active",
            since=self.node_now,
            at=self.node_now,
        )

    def _obey(self, body: DesiredBody) -> None:
        for grant in body.runs:
            if grant.run not in self.runs:
                self.run_begins(grant)
        wanted = {grant.run for grant in body.runs}
        for run in list(self.runs.values()):
            if run.run not in wanted and not run.state.is_final:
                self.run_ends(run.run, RunState.CANCELLED)


def _words(blockers: tuple[Blocker, ...]) -> list[tuple[str, str]]:
    return [(one.code, one.text) for one in blockers]


def a_world(
    *entries: CatalogueEntry, gpus: int = 1, obeying: bool = True, **fields: object
) -> World:
    """Return a world that has begun, with GPUs that were idle for an hour and nobody there."""
    world = World(gpus=gpus, obeying=obeying, entries=entries or (entry(),))
    for name, value in fields.items():
        setattr(world, name, value)
    world.start()
    return world
