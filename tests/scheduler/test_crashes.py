"""What ends by itself waits longer each time, and is held in the end."""

from __future__ import annotations

from gleaner.bus.messages import RequestKind, RunState
from tests.scheduler.story import World, a_world, entry


def crash(world: World, *, state: RunState = RunState.FAILED, lasted: float = 1) -> None:
    """Let the only run end by itself."""
    (run,) = world.run_ids
    code = 0 if state is RunState.SUCCEEDED else 1
    world.run_ends(run, state, lasted=lasted, exit_code=code)


def wait_for_a_grant(world: World) -> int:
    """Return after how many seconds the workload was granted again."""
    for seconds in range(1, 2000):
        world.tick(1)
        if world.granted:
            return seconds
    raise AssertionError("it was not granted again")


def test_each_end_doubles_the_wait() -> None:
    world = a_world()
    waits = []

    for _ in range(4):
        crash(world)
        waits.append(wait_for_a_grant(world))

    assert waits == [2, 4, 8, 16]


def test_ten_ends_at_once_are_not_ten_starts_in_ten_seconds() -> None:
    world = a_world()

    for _ in range(10):
        if world.granted:
            crash(world, state=RunState.SUCCEEDED)
        world.tick(1)

    assert len(world.ever_granted) == 3


def test_the_wait_is_said_with_its_end_and_the_exit_code() -> None:
    world = a_world()

    crash(world)

    text = "ended by itself with exit code 1, waits before it starts again"
    assert world.why_not() == [("backoff", text)]
    assert world.why() == [("workload", f"fold: {text}")]
    assert world.blockers.workloads[0].blockers[0].until is not None


def test_exit_code_0_waits_too_but_is_never_held() -> None:
    world = a_world()

    for _ in range(12):
        crash(world, state=RunState.SUCCEEDED)
        last = wait_for_a_grant(world)

    assert last == 600


def test_five_failures_in_a_row_hold_the_workload_with_the_reason() -> None:
    world = a_world()

    for _ in range(4):
        crash(world)
        wait_for_a_grant(world)
    crash(world)
    world.tick(3600)

    assert world.granted == []
    assert world.why_not() == [
        (
            "crashed",
            "ended 5 times in a row, last: exit code 1; `gleaner resume n1 fold` forgets it",
        )
    ]


def held() -> World:
    world = a_world()
    for _ in range(4):
        crash(world)
        wait_for_a_grant(world)
    crash(world)
    return world


def test_resuming_it_forgets_the_failures() -> None:
    world = held()

    answer = world.request(RequestKind.RESUME, node="n1", entry="fold")

    assert answer.ok
    assert answer.text == "how it ended before is forgotten"
    assert world.granted == [("fold", ("GPU-0",))]


def test_another_digest_is_another_chance() -> None:
    world = held()

    world.entries = (entry("fold", digest="d2"),)
    world.hear(world.catalogue())

    assert world.granted == [("fold", ("GPU-0",))]


def test_it_is_held_at_its_place_only_and_others_take_the_gpu() -> None:
    world = a_world(entry("fold"), entry("mine"), gpus=2)
    first = world.run_ids[0]

    for _ in range(5):
        world.run_ends(first, RunState.FAILED, exit_code=1)
        world.tick(40)
        first = world.run_ids[-1]

    assert world.granted == [("fold", ("GPU-1",)), ("mine", ("GPU-0",))]


def test_a_short_wait_keeps_the_gpu_for_the_first_entry() -> None:
    world = a_world(entry("fold"), entry("mine"))

    crash(world)
    wait_for_a_grant(world)

    assert world.granted == [("fold", ("GPU-0",))]


def test_a_run_that_lasted_forgets_earlier_ends() -> None:
    world = a_world()
    for _ in range(3):
        crash(world)
        wait_for_a_grant(world)

    crash(world, lasted=121)

    assert wait_for_a_grant(world) == 2


def test_an_evicted_run_is_no_failure() -> None:
    world = a_world()

    for _ in range(10):
        world.run_ends(world.run_ids[0], RunState.EVICTED)
        world.tick(61)

    assert world.granted == [("fold", ("GPU-0",))]
    assert world.state.crashes == {}


def test_a_failure_that_is_told_twice_counts_once() -> None:
    world = a_world()
    (run,) = world.run_ids

    crash(world)
    world.hear(world.runs[run].model_copy(update={"reason": "exit code 1, recorded"}))

    assert [one.failures for one in world.state.crashes.values()] == [1]
    assert wait_for_a_grant(world) == 2


def test_failures_survive_a_restart() -> None:
    world = held()

    world.restart()
    world.tick(60)

    assert world.granted == []
    assert world.why_not()[0][0] == "crashed"
