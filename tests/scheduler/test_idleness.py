"""When a GPU may be used, and what is said when it may not."""

from __future__ import annotations

import pytest

from gleaner.bus.messages import Blockers, Cause, CauseKind, GpuCondition, RunState
from tests.builders import NOW
from tests.scheduler.story import World, a_world, entry


def waiting(**fields: object) -> World:
    """A world in which somebody was at GPU 0 until just now."""
    world = World(**fields)  # type: ignore[arg-type]
    world.busy(0)
    world.start()
    world.idle(0)
    return world


def test_time_in_which_nobody_looked_is_not_idle_time() -> None:
    world = World(collector_started_at=NOW)
    world.idle(0, for_seconds=3600)
    world.start()

    world.tick(57)
    assert world.granted == []
    world.tick(2)
    assert world.granted == [("fold", ("GPU-0",))]


def test_a_gpu_is_used_after_it_was_idle_for_long_enough_and_not_before() -> None:
    world = waiting()

    world.tick(59)
    assert world.granted == []
    world.tick(1)

    assert world.granted == [("fold", ("GPU-0",))]
    assert world.known.grants[0].reason == "idle for 60 s; nobody is active"


def test_the_wait_is_said_with_its_end_and_without_chatter() -> None:
    world = waiting()

    world.tick(23)

    assert world.why() == [("idle_for", "idle for 20 of 60 s")]
    until = world.blockers.gpus[0].blockers[0].until
    assert until is not None
    assert 36 <= (until - world.now).total_seconds() <= 38
    assert len(world.all_said(Blockers)) <= 8


@pytest.mark.parametrize("skew", [-86400, -30, 30, 86400])
def test_a_node_whose_clock_is_wrong_waits_as_long_as_any_other(skew: float) -> None:
    world = waiting(skew=skew)

    world.tick(59)
    assert world.granted == []
    world.tick(1)

    assert world.granted == [("fold", ("GPU-0",))]


def test_an_active_person_keeps_the_whole_node() -> None:
    world = a_world(gpus=2)
    world.owner()
    for run in world.run_ids:
        world.run_ends(run, RunState.EVICTED)

    world.tick(120)

    assert world.granted == []
    assert world.why(0) == [("people", "user1 is active at pts/3")]
    assert world.why(1) == [("people", "user1 is active at pts/3")]


def test_runs_start_as_soon_as_nobody_is_active_because_the_gpu_was_idle_all_the_while() -> None:
    world = a_world()
    world.owner()
    world.run_ends(world.run_ids[0], RunState.EVICTED)
    world.tick(300)

    world.owner(active=False)
    world.tick(1)

    assert world.granted == [("fold", ("GPU-0",))]


def test_an_eviction_counts_as_a_stranger_even_if_nobody_was_seen_here() -> None:
    world = a_world()

    world.run_ends(world.run_ids[0], RunState.EVICTED)
    world.tick(50)

    assert world.granted == []


def test_a_node_that_stops_is_granted_nothing_more() -> None:
    world = a_world()
    (run,) = world.run_ids
    stopped = Cause(kind=CauseKind.SHUTDOWN, text="the runner was stopped")
    world.runs[run] = world.runs[run].model_copy(update={"cause": stopped})

    world.run_ends(run, RunState.CANCELLED)
    world.tick(5)

    assert world.granted == []


def test_a_run_that_ended_by_itself_does_not_make_the_gpu_wait_to_be_idle() -> None:
    world = a_world()
    world.becomes(GpuCondition.OURS)
    world.tick(200)
    world.run_ends(world.run_ids[0], RunState.SUCCEEDED, lasted=200, exit_code=0)
    world.idle(0)

    world.tick(4)

    assert world.granted == [("fold", ("GPU-0",))]
    assert len(world.ever_granted) == 2


def test_somebody_who_came_and_went_between_two_facts_is_noticed() -> None:
    world = a_world(entries=())
    world.idle(0, for_seconds=5)
    world.entries = (entry(),)
    world.hear(world.catalogue())

    world.tick(50)

    assert world.granted == []


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (GpuCondition.BUSY, "somebody uses it"),
        (GpuCondition.HELD, "somebody holds it and does nothing"),
        (GpuCondition.DIRTY, "memory or device still held by nobody we can name"),
        (GpuCondition.LOST, "the driver says it is gone"),
        (GpuCondition.UNKNOWN, "the node cannot tell who uses it"),
        (GpuCondition.OURS, "a run of ours still holds it"),
    ],
)
def test_only_an_idle_gpu_is_used(condition: GpuCondition, words: str) -> None:
    world = World()
    world.becomes(condition)
    world.start()

    world.tick(120)

    assert world.granted == []
    assert world.why() == [(condition.value, words)]


def test_the_reasons_of_the_node_are_passed_on() -> None:
    world = World()
    world.becomes(GpuCondition.HELD, reason="user2 holds it since 09:00 and does nothing (pid 7)")
    world.start()

    assert world.why() == [("held", "user2 holds it since 09:00 and does nothing (pid 7)")]


def test_a_gpu_that_was_never_heard_of_is_not_idle() -> None:
    world = a_world()
    world.run_ends(world.run_ids[0], RunState.EVICTED)
    world.clear(world.known.gpus["GPU-0"])

    world.tick(120)

    assert world.why() == [("unknown", "nothing was heard of it yet")]


def test_people_nobody_has_spoken_of_are_there() -> None:
    world = World()
    world.start()
    world.clear(world._people())
    world.run_ends(world.run_ids[0], RunState.EVICTED)
    world.tick(120)

    assert world.why() == [("people", "nobody has said yet who is there")]


def test_a_node_without_beats_gets_nothing_after_five_seconds() -> None:
    world = waiting()
    world.tick(50)

    world.beating = False
    world.tick(30)

    assert world.granted == []
    assert world.why()[0] == ("stale", "no check of n1 since 12:00:52 UTC")


def test_a_node_that_lost_its_connection_gets_nothing_at_once() -> None:
    world = waiting()
    world.connection("online")
    world.tick(59)

    world.connection("offline")
    world.beating = False
    world.tick(1)

    assert world.granted == []
    assert world.why()[0] == ("offline", "n1 is offline")


def test_the_late_will_of_an_older_connection_means_nothing() -> None:
    world = waiting()
    world.connection("online", "b")
    world.tick(1)

    world.connection("offline", "a")
    world.tick(60)

    assert world.granted == [("fold", ("GPU-0",))]


def test_after_a_new_connection_the_first_beat_is_waited_for() -> None:
    world = waiting()
    world.connection("online", "a")
    world.tick(59.5)

    world.connection("online", "b")
    world.beating = False
    world.tick(1)

    assert world.why()[0] == ("unheard", "nothing was heard of n1 yet, only old facts")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"paused": True, "paused_reason": "user1 touched it"},
            ("paused", "paused by the file on the node: user1 touched it"),
        ),
        ({"watched": False}, ("not_watched", "the runner does not hear the collector's checks")),
        ({"lease": "lost"}, ("lease", "the node has not heard the scheduler for 30 s")),
        (
            {"lease": "none"},
            (
                "lease",
                "the node obeys no scheduler yet; is this one's key among its scheduler_keys?",
            ),
        ),
        ({"runs": ("n1-0-9",)}, ("unheard", "the fact of run n1-0-9 was not heard yet")),
    ],
)
def test_what_the_runner_says_counts(change: dict[str, object], said: tuple[str, str]) -> None:
    world = waiting()
    world.tick(30)

    world.hear(world.runner(**change))
    world.tick(60)

    assert world.granted == []
    assert said in world.why()


def test_a_driver_problem_is_a_reason() -> None:
    world = waiting()

    world.hear(world.inventory(driver_problem="driver was upgraded: reboot needed"))
    world.tick(90)

    assert world.why() == [("driver", "driver was upgraded: reboot needed")]


def test_idle_gpus_are_counted_by_model_on_nodes_that_are_there() -> None:
    world = a_world(gpus=3)
    world.busy(0)
    world.becomes(GpuCondition.OURS, 1)
    world.tick(2)
    assert world.fleet.idle_gpus_by_model == {"H100": 2}

    world.beating = False
    world.tick(10)

    assert world.fleet.idle_gpus_by_model == {}
