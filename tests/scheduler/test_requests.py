"""Pause, resume, drain, undrain: what they do, and what is answered."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gleaner.bus.messages import RequestKind, RunState
from tests.scheduler.story import World, a_world, entry

PAUSE, RESUME = RequestKind.PAUSE, RequestKind.RESUME
DRAIN, UNDRAIN = RequestKind.DRAIN, RequestKind.UNDRAIN


def test_a_paused_node_loses_its_runs_and_gets_them_back_when_resumed() -> None:
    world = a_world()

    answer = world.request(PAUSE, node="n1", reason="a new fan")
    assert answer.text == "n1 is paused until resumed"
    assert world.wishes[-1].runs == ()
    world.tick(120)
    assert world.granted == []
    assert world.why() == [("paused", "paused by alice: a new fan")]

    assert world.request(RESUME, node="n1").text == "n1 is resumed"
    assert world.granted == [("fold", ("GPU-0",))]


def test_a_paused_fleet_runs_nothing_anywhere() -> None:
    world = a_world()

    assert world.request(PAUSE).text == "the fleet is paused until resumed"

    assert world.granted == []
    assert world.why() == [("paused", "the fleet is paused by alice")]
    assert [pause.node for pause in world.fleet.pauses] == [None]


def test_a_paused_workload_gives_way_to_the_next() -> None:
    world = a_world(entry("fold"), entry("mine"))

    answer = world.request(PAUSE, node="n1", entry="fold")

    assert answer.text == "fold on n1 is paused until resumed"
    assert world.granted == [("mine", ("GPU-0",))]
    assert world.why_not("fold")[0] == ("paused", "paused by alice")


def test_a_timed_pause_ends_by_itself() -> None:
    world = a_world()

    answer = world.request(PAUSE, node="n1", duration_seconds=30)
    assert answer.text == "n1 is paused until 2026-11-21 12:00:32 UTC"
    assert world.why() == [("paused", "paused by alice until 2026-11-21 12:00:32 UTC")]
    world.tick(29)
    assert world.granted == []
    world.tick(1)

    assert world.granted == [("fold", ("GPU-0",))]
    assert world.fleet.pauses == ()


def test_a_drained_node_keeps_what_runs_and_gets_nothing_new() -> None:
    world = a_world(gpus=2)
    first, second = world.run_ids

    answer = world.request(DRAIN, node="n1", reason="moving house")
    world.run_ends(first, RunState.EVICTED)
    world.tick(120)

    assert answer.text == "n1 is drained: nothing new starts there, what runs goes on"
    assert world.run_ids == [second]
    assert world.why(0) == [("drained", "drained by alice: moving house")]

    assert world.request(UNDRAIN, node="n1").text == "n1 is no longer drained"
    assert len(world.run_ids) == 2


def test_pause_beats_drain() -> None:
    world = a_world()

    world.request(DRAIN, node="n1")
    world.request(PAUSE, node="n1")

    assert world.granted == []


def test_a_resumed_node_says_if_the_fleet_is_still_paused() -> None:
    world = a_world()
    world.request(PAUSE)
    world.request(PAUSE, node="n1")

    answer = world.request(RESUME, node="n1")

    assert answer.text == "n1 is resumed; still paused: the fleet"
    assert world.granted == []


def test_a_resumed_fleet_says_what_is_still_paused() -> None:
    world = a_world()
    world.request(PAUSE)
    world.request(PAUSE, node="n1", entry="fold")

    answers = [world.request(RESUME).text for _ in range(2)]

    assert answers == [
        "the fleet is resumed; still paused: fold on n1",
        "the fleet was not paused; still paused: fold on n1",
    ]


def test_a_pause_said_again_replaces_the_first() -> None:
    world = a_world()
    world.request(PAUSE, node="n1", duration_seconds=5)

    world.request(PAUSE, node="n1", reason="longer", duration_seconds=60)

    assert [pause.reason for pause in world.fleet.pauses] == ["longer"]


def test_a_request_that_comes_twice_is_done_once_and_answered_twice() -> None:
    world = a_world()
    first = world.request(PAUSE, id="r-1", node="n1")
    world.request(RESUME, node="n1")

    again = world.request(PAUSE, id="r-1", node="n1")

    assert again == first
    assert world.granted == [("fold", ("GPU-0",))]


def test_what_is_not_paused_can_be_resumed_without_harm() -> None:
    world = a_world()

    assert world.request(RESUME, node="n1").text == "n1 was not paused"
    assert world.request(UNDRAIN, node="n1").text == "n1 was not drained"
    assert all(answer.ok for answer in world.responses)


@pytest.mark.parametrize(
    ("kind", "fields", "text"),
    [
        (PAUSE, {"node": "gpu9"}, "there is no node gpu9; there is n1"),
        (PAUSE, {"node": "n1", "entry": "mine"}, "n1 has no workload mine; it has fold"),
        (PAUSE, {"entry": "fold"}, "on which node is fold meant?"),
        (DRAIN, {}, "drain needs a node; to stop everything, pause the fleet"),
        (
            DRAIN,
            {"node": "n1", "entry": "fold"},
            "a whole node is drained; to stop fold alone, pause it",
        ),
        (PAUSE, {"duration_seconds": -1.0}, "-1 s is no duration: between 0 s and a year"),
        (PAUSE, {"duration_seconds": 1e300}, "1e+300 s is no duration: between 0 s and a year"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_with_what_would(
    kind: RequestKind, fields: dict[str, object], text: str
) -> None:
    world = a_world()

    answer = world.request(kind, **fields)

    assert (answer.ok, answer.text) == (False, text)
    assert world.granted == [("fold", ("GPU-0",))]


def test_a_request_that_expired_is_not_done() -> None:
    world = a_world()

    answer = world.request(PAUSE, expires_at=world.now - timedelta(seconds=1))

    assert not answer.ok
    assert answer.text.startswith("it expired at 2026-11-21 12:00:01 UTC and here it is ")
    assert world.granted == [("fold", ("GPU-0",))]


def test_a_scheduler_that_has_just_begun_asks_for_patience() -> None:
    answer = World().request(PAUSE, node="n1")

    assert answer.text == "the scheduler is still listening to what there is; ask again in 2 s"


def test_pauses_and_drains_survive_a_restart() -> None:
    world = a_world(gpus=2)
    world.request(DRAIN, node="n1")
    world.request(PAUSE, node="n1", entry="fold")

    world.restart()
    world.tick(60)

    assert world.granted == []
    assert [code for code, _ in world.why()] == ["drained"]
    assert [code for code, _ in world.why_not()] == ["drained", "paused"]


def test_a_pause_that_is_asked_for_again_is_told_with_its_new_end() -> None:
    world = a_world()
    # Of a node that is heard something else changes sooner.
    world.beating = False
    world.tick(6)
    world.request(PAUSE, node="n1", duration_seconds=60)
    world.tick(1)

    # A second later is not worth a message to everybody at once, but it is told.
    world.request(PAUSE, node="n1", duration_seconds=60)
    world.tick(10)

    assert ("paused", "paused by alice until 2026-11-21 12:01:09 UTC") in world.why()
