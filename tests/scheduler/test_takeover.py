"""A scheduler that starts, restarts or meets another one harms no healthy run."""

from __future__ import annotations

import pytest

from gleaner.bus.messages import (
    DesiredBody,
    GpuCondition,
    Grant,
    Pause,
    RunState,
    SchedulerState,
)
from services.scheduler.events import Connected, Forgotten, HeardWish
from services.scheduler.memory import Memory
from tests.builders import NOW
from tests.scheduler.story import World, a_world


def test_a_healthy_run_goes_on_over_a_restart() -> None:
    world = a_world(gpus=2)
    before, term = world.run_ids, world.state.term
    world.becomes(GpuCondition.OURS, 0)

    world.restart()
    world.tick(60)

    assert world.run_ids == before
    assert world.state.term == term + 1
    assert [wish.term for wish in world.wishes] == [term + 1]
    assert all(not run.state.is_final for run in world.runs.values())


def test_a_run_goes_on_even_if_the_earlier_wish_is_lost() -> None:
    world = a_world()
    before = world.run_ids
    world.said = []

    world.restart()

    assert world.run_ids == before


def test_a_wish_that_the_node_has_not_begun_is_kept() -> None:
    world = a_world(obeying=False)
    before = world.run_ids

    world.restart()

    assert world.run_ids == before


def test_what_ended_while_nobody_listened_is_settled_and_counted() -> None:
    world = a_world()
    (run,) = world.run_ids
    kept, world.state = world.state, World().state
    world.run_ends(run, RunState.FAILED, exit_code=1)
    world.state = kept

    world.restart()

    assert [one.failures for one in world.state.crashes.values()] == [1]


def test_a_paused_node_is_told_so_by_the_first_wish() -> None:
    world = a_world()

    world.restart(pauses=(Pause(node="n1", reason="", by="alice", at=NOW),))

    assert [wish.runs for wish in world.wishes] == [()]


def test_an_unheard_node_is_not_spoken_to() -> None:
    world = World(beating=False)

    world.start()
    world.tick(60)

    assert world.wishes == []
    assert world.why() == [("unheard", "nothing was heard of n1 yet, only old facts")]


def test_a_node_is_spoken_to_only_when_all_its_runs_are_known() -> None:
    world = World()
    run = a_world().runs["n1-1-1"]
    world.happen(Connected(at=NOW))
    world.hear(world.inventory())
    world.hear(world.catalogue())
    world.hear(world.runner(runs=(run.run,)))
    world.tick(10)
    assert world.wishes == []

    world.hear(run)

    assert [grant.run for grant in world.wishes[0].runs] == [run.run]


def test_a_run_that_was_archived_is_not_waited_for() -> None:
    world = a_world()
    (first,) = world.run_ids
    world.run_ends(first, RunState.EVICTED)
    world.tick(70)
    wishes = len(world.wishes)

    world.clear(world.runs[first])
    world.tick(5)

    assert len(world.wishes) == wishes
    assert not any("unheard" in code for code, _ in world.why())


def test_the_term_is_higher_than_any_that_was_heard_of() -> None:
    world = World(memory=Memory(term=3))
    world.hear(SchedulerState(term=5, at=NOW), retained=True)
    world.hear(world.runner(term=8), retained=True)
    old = DesiredBody(node="n1", term=7, generation=1, runs=(), at=NOW)
    world.happen(HeardWish(body=old, at=NOW))

    world.start()

    assert world.state.term == 9


def test_run_ids_never_repeat_over_restarts() -> None:
    world = a_world()
    seen = set(world.run_ids)

    for _ in range(5):
        world.run_ends(world.run_ids[0], RunState.LOST)
        world.restart()
        assert seen.isdisjoint(world.run_ids)
        seen.update(world.run_ids)


def test_a_scheduler_stops_when_another_speaks_with_a_higher_term() -> None:
    world = a_world()

    world.rival_beats(9)

    assert world.superseded[0].text == "another scheduler beats with term 9"


def test_what_nobody_has_signed_stops_no_scheduler_that_is_at_work() -> None:
    world = a_world()

    world.hear(SchedulerState(term=9, at=world.now))
    world.rival_beats(9, key="another")
    world.tick(5)

    assert not world.superseded
    assert len(world.run_ids) == 1


@pytest.mark.parametrize(
    ("key", "whose"), [(None, "with our own key"), ("another", "its key is another")]
)
def test_whoever_comes_where_a_scheduler_is_at_work_stops(key: str | None, whose: str) -> None:
    world = World()
    world.facts()

    world.rival_beats(1, key=key)

    assert world.superseded[0].text == f"another scheduler was here first ({whose})"
    assert not world.wishes


def test_a_node_that_obeyed_a_later_scheduler_is_outbid() -> None:
    world = a_world()

    world.hear(world.runner(term=4))

    assert not world.superseded
    assert (world.wishes[-1].term, world.state.term) == (5, 5)
    assert [run.run for run in world.wishes[-1].runs] == world.run_ids


def test_a_term_that_cannot_be_is_not_outbid() -> None:
    world = a_world()

    world.hear(world.runner(term=2**62))

    assert world.state.term == 1


def test_a_scheduler_stops_when_its_own_term_is_spoken_by_another() -> None:
    world = a_world()

    world.rival_beats(1)

    assert world.superseded


def test_an_older_scheduler_is_contradicted() -> None:
    world = a_world()
    last = world.wishes[-1]
    world.state = World(memory=Memory(term=5)).state
    world.said = []
    world.start()

    world.happen(HeardWish(body=last, at=world.now))

    assert [wish.generation for wish in world.wishes] == [1, 2]
    assert world.wishes[0].runs == world.wishes[1].runs
    assert not world.superseded


def test_the_echo_of_an_own_wish_changes_nothing() -> None:
    world = a_world()

    for _ in range(3):
        world.happen(HeardWish(body=world.wishes[-1], at=world.now))
    world.tick(5)

    assert len(world.wishes) == 1


def test_a_lost_broker_decides_nothing_and_comes_back_to_the_same_runs() -> None:
    world = a_world(gpus=2)
    before, said = world.run_ids, len(world.wishes)
    world.lose_the_broker()
    world.beating = False
    world.tick(60)
    assert len(world.wishes) == said

    world.beating = True
    world.start()
    world.tick(10)

    assert world.run_ids == before
    assert len(world.wishes) == said


def test_a_run_that_ended_while_the_broker_was_away_is_settled_afterwards() -> None:
    world = a_world()
    (run,) = world.run_ids
    world.lose_the_broker()
    world.run_ends(run, RunState.EVICTED)

    world.start()

    assert run not in world.run_ids


def test_two_wishes_for_one_gpu_are_never_taken_over() -> None:
    world = World(obeying=False)
    twice = tuple(
        Grant(
            run=f"n1-1-{number}",
            entry="fold",
            digest="d1",
            gpus=("GPU-0",),
            granted_at=NOW,
            reason="",
        )
        for number in (1, 2)
    )
    body = DesiredBody(node="n1", term=1, generation=2, runs=twice, at=NOW)
    world.happen(HeardWish(body=body, at=NOW))

    world.start()

    assert world.run_ids == ["n1-1-1"]


def test_a_node_whose_facts_are_cleared_is_forgotten() -> None:
    world = a_world()

    for message in [*world.known.gpus.values(), *world.facts_of_a_start()]:
        world.clear(message)

    assert world.state.nodes == {}
    assert world.all_said(Forgotten) == [Forgotten(node="n1")]
