"""Whatever happens, in whatever order: what must never be wished for, and what is always said."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gleaner.bus.messages import (
    Blockers,
    DesiredBody,
    GpuCondition,
    Grant,
    RequestKind,
    RunState,
)
from services.scheduler.decide import decide
from services.scheduler.events import Event
from tests.scheduler.story import World, entry

GPUS = 3
CATALOGUES = [
    (entry("fold", "each"),),
    (entry("burn", "all"), entry("fold", "each")),
    (entry("pair", (0, 2)), entry("fold", "each")),
    (entry("fold", (1,)), entry("burn", "all")),
    (entry("broken", "each", problems=("no such user",)), entry("pair", (2, 1))),
    (),
]
ENDS = [RunState.SUCCEEDED, RunState.FAILED, RunState.EVICTED, RunState.LOST]


class Watched(World):
    """A world in which every new grant is checked against what the node said last."""

    on_grant = staticmethod(lambda grant: None)
    checked: set[str]

    def happen(self, event: Event) -> list[object]:  # type: ignore[override]
        said = super().happen(event)
        for body in said:
            if isinstance(body, DesiredBody):
                for grant in body.runs:
                    if grant.run not in self.checked:
                        self.on_grant(grant)
                        self.checked.add(grant.run)
        return list(said)


class Fleet(RuleBasedStateMachine):
    """One node that does as it likes, and a scheduler."""

    def __init__(self) -> None:
        super().__init__()
        self.world = Watched(gpus=GPUS, obeying=False, skew=7)
        self.world.checked = set()
        self.world.on_grant = self.check_grant  # type: ignore[method-assign]
        self.is_connected = False
        self.is_offline = False

    def check_grant(self, grant: Grant) -> None:
        """The node's own truth, told by other means than the scheduler's."""
        world = self.world
        for gpu in grant.gpus:
            state = world.states.get(int(gpu.removeprefix("GPU-")))
            assert state is None or state.state is GpuCondition.IDLE
            # Nobody was there for a minute; runs of ours may have been.
            assert not any(run.gpus.count(gpu) for run in self.alive())
        assert world.people is None or not world.people.active
        assert not self.is_offline
        assert world.now - world.beat_at <= timedelta(seconds=5)
        assert not world.runner_says
        assert not world.state.drains
        assert not [pause for pause in world.state.pauses if pause.entry is None]
        assert not [pause for pause in world.state.pauses if pause.entry == grant.entry]

    def alive(self) -> list[object]:
        return [run for run in self.world.runs.values() if not run.state.is_final]

    @initialize(entries=st.sampled_from(CATALOGUES))
    def begin(self, entries: tuple[object, ...]) -> None:
        self.world.entries = entries  # type: ignore[assignment]
        self.world.start()
        self.is_connected = True

    @rule(seconds=st.sampled_from([1, 3, 10, 30, 70]))
    def time_goes_by(self, seconds: int) -> None:
        self.world.tick(seconds)

    @rule(index=st.integers(0, GPUS - 1), condition=st.sampled_from(GpuCondition))
    def a_gpu_changes(self, index: int, condition: GpuCondition) -> None:
        self.world.becomes(condition, index)

    @rule(index=st.integers(0, GPUS - 1), seconds=st.sampled_from([0, 30, 59, 61]))
    def a_gpu_is_idle(self, index: int, seconds: int) -> None:
        self.world.idle(index, for_seconds=seconds)

    @rule(active=st.booleans())
    def somebody_comes_or_goes(self, active: bool) -> None:
        self.world.owner(active=active)

    @rule()
    def the_node_falls_silent(self) -> None:
        self.world.beating = False
        self.world.tick(6)

    @rule()
    def the_node_speaks_again(self) -> None:
        self.world.beating = True
        self.is_offline = False
        self.world.connection("online", "b")

    @rule()
    def the_node_loses_its_connection(self) -> None:
        self.world.beating = False
        self.is_offline = True
        self.world.connection("offline", "b")

    @rule(
        change=st.sampled_from(
            [{"paused": True}, {"watched": False}, {"lease": "lost"}, {"runs": ("n1-0-9",)}, {}]
        )
    )
    def the_runner_changes(self, change: dict[str, object]) -> None:
        self.world.runner_says = change
        self.world.hear(self.world.runner())

    @rule(entries=st.sampled_from(CATALOGUES))
    def the_catalogue_changes(self, entries: tuple[object, ...]) -> None:
        self.world.entries = entries  # type: ignore[assignment]
        self.world.hear(self.world.catalogue())

    @precondition(lambda self: self.world.state.nodes.get("n1") and self.world.known.grants)
    @rule(data=st.data())
    def a_run_begins(self, data: st.DataObject) -> None:
        grant = data.draw(st.sampled_from(self.world.known.grants))
        if grant.run not in self.world.runs:
            self.world.run_begins(grant)

    @precondition(lambda self: self.alive())
    @rule(data=st.data(), state=st.sampled_from(ENDS), lasted=st.sampled_from([1, 500]))
    def a_run_ends(self, data: st.DataObject, state: RunState, lasted: int) -> None:
        run = data.draw(st.sampled_from(self.alive()))
        self.world.run_ends(run.run, state, lasted=lasted, exit_code=1)  # type: ignore[attr-defined]

    @rule(
        kind=st.sampled_from(RequestKind),
        node=st.sampled_from([None, "n1"]),
        name=st.sampled_from([None, "fold"]),
        seconds=st.sampled_from([None, 20.0]),
    )
    def somebody_asks(
        self, kind: RequestKind, node: str | None, name: str | None, seconds: float | None
    ) -> None:
        self.world.request(kind, node=node, entry=name, duration_seconds=seconds)

    @rule()
    def the_scheduler_restarts(self) -> None:
        self.world.restart()

    @rule(seconds=st.sampled_from([1, 20]))
    def the_broker_goes_and_comes(self, seconds: int) -> None:
        self.world.lose_the_broker()
        self.world.tick(seconds)
        self.world.start()

    @invariant()
    def never_two_runs_of_ours_on_one_gpu(self) -> None:
        for node in self.world.state.nodes.values():
            used = [gpu for grant in node.grants for gpu in grant.gpus]
            assert len(used) == len(set(used))

    @invariant()
    def deciding_twice_decides_nothing_new(self) -> None:
        state = self.world.state
        again, said = decide(replace(state, touched=frozenset(state.nodes)), self.world.policy)
        assert [one for one in said if isinstance(one, DesiredBody | Blockers)] == []
        assert [one.grants for one in again.nodes.values()] == [
            one.grants for one in state.nodes.values()
        ]

    @invariant()
    def every_gpu_that_is_not_used_has_a_reason(self) -> None:
        if not self.is_connected:
            return
        for group in self.world.blockers.gpus:
            assert group.blockers, group.gpu

    @invariant()
    def a_paused_node_is_wished_nothing(self) -> None:
        state = self.world.state
        if any(pause.entry is None for pause in state.pauses) and state.is_settled:
            assert self.world.known.grants == ()

    @invariant()
    def what_was_said_last_is_what_is_decided(self) -> None:
        node = self.world.state.nodes.get("n1")
        if node and node.generation:
            assert self.world.wishes[-1].runs == node.grants


Fleet.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestFleet = Fleet.TestCase
