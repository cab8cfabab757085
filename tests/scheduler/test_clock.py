"""Clocks that are set right while everything runs, as they are after a boot."""

from __future__ import annotations

from datetime import timedelta

from gleaner.settings import SchedulerSettings
from services.scheduler.events import Connected
from tests.scheduler.story import World

HOUR = 3600


def test_a_nodes_clock_set_back_by_an_hour_costs_one_idle_time() -> None:
    world = World(skew=HOUR, policy=SchedulerSettings(gpu_idle_seconds=60))
    world.idle()
    world.start()
    world.tick(5)
    assert world.run_ids == []

    world.skew = 0
    world.tick(62)

    assert len(world.run_ids) == 1


def test_our_own_clock_set_back_by_an_hour_keeps_nobody_waiting() -> None:
    world = World()
    world.happen(Connected(at=world.now))
    world.now -= timedelta(seconds=HOUR)
    world.facts()

    world.tick(3)

    assert world.state.is_settled
    assert len(world.run_ids) == 1


def test_our_own_clock_set_by_an_hour_touches_no_run() -> None:
    for hours in (1, -1):
        world = World()
        world.start()
        before, wishes = world.run_ids, len(world.wishes)

        world.now += timedelta(seconds=hours * HOUR)
        world.tick(10)

        assert world.run_ids == before != []
        assert len(world.wishes) == wishes
