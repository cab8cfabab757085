"""Clocks that are set right while everything runs, as they are after a boot."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gleaner.bus.messages import RunState
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


@pytest.mark.parametrize("hours", [1, -1])
def test_a_node_whose_clock_is_set_lends_no_gpu_that_was_not_idle_long_enough(hours: int) -> None:
    world = World(policy=SchedulerSettings(gpu_idle_seconds=60))
    world.idle()
    world.start()
    world.tick(30)

    world.skew = hours * HOUR
    world.collector_started_at = world.node_now
    world.tick(59)
    before = world.run_ids
    world.tick(3)

    assert (len(before), len(world.run_ids)) == (0, 1)


def test_our_own_clock_set_back_wakes_whoever_waits_for_a_time() -> None:
    world = World(policy=SchedulerSettings(gpu_idle_seconds=60))
    world.idle()
    world.start()
    world.tick(30)

    world.now -= timedelta(seconds=HOUR)
    world.skew += HOUR
    world.beat()
    world.tick(33)

    assert len(world.run_ids) == 1


def test_a_wait_after_a_crash_does_not_grow_by_our_own_clock_set_back() -> None:
    world = World(policy=SchedulerSettings(backoff_seconds=100, backoff_max_seconds=600))
    world.start()
    (run,) = world.run_ids
    world.run_ends(run, RunState.FAILED)
    world.tick(5)
    waited = [code for code, _ in world.why_not()]

    world.now -= timedelta(seconds=HOUR)
    world.skew += HOUR
    world.tick(65)

    assert "backoff" in waited
    assert len(world.run_ids) == 1


def test_a_grant_that_nobody_begins_is_withdrawn_although_our_own_clock_was_set_back() -> None:
    world = World(obeying=False)
    world.start()
    (granted,) = world.run_ids

    world.now -= timedelta(seconds=HOUR)
    world.skew += HOUR
    world.tick(65)

    assert granted not in world.run_ids


def test_our_own_clock_set_by_an_hour_touches_no_run() -> None:
    for hours in (1, -1):
        world = World()
        world.start()
        before, wishes = world.run_ids, len(world.wishes)

        world.now += timedelta(seconds=hours * HOUR)
        world.tick(10)

        assert world.run_ids == before != []
        assert len(world.wishes) == wishes
