"""Which workload gets which GPU."""

from __future__ import annotations

from datetime import timedelta

from gleaner.bus.messages import GpuCondition, GpuInventory, RequestKind, RunState
from tests.scheduler.story import a_world, entry, gpu_name

DRAIN = RequestKind.DRAIN
FOLD = entry("fold", "each")
MINE = entry("mine", "each")
BURN = entry("burn", "all")
PAIR = entry("pair", (0, 2))


def test_one_run_over_all_gpus_starts_once_when_all_are_idle() -> None:
    world = a_world(BURN, gpus=2)

    assert world.granted == [("burn", ("GPU-0", "GPU-1"))]
    world.tick(30)
    assert len(world.ever_granted) == 1


def test_every_idle_gpu_gets_one_run_and_keeps_it() -> None:
    world = a_world(FOLD, gpus=2)

    world.tick(10)

    assert world.granted == [("fold", ("GPU-0",)), ("fold", ("GPU-1",))]
    assert len(world.ever_granted) == 2
    assert len(world.wishes) == 1


def test_a_run_that_never_opens_its_gpu_stays_the_only_one() -> None:
    world = a_world(FOLD)

    world.tick(10)

    assert world.known.gpus["GPU-0"].state is GpuCondition.IDLE
    assert len(world.ever_granted) == 1


def test_a_stranger_on_one_gpu_leaves_the_run_on_the_other_alone() -> None:
    world = a_world(FOLD, gpus=2)
    first, second = world.run_ids

    world.busy(0)
    world.run_ends(first, RunState.EVICTED)
    world.tick(120)

    assert world.run_ids == [second]
    assert ("busy", "user1 computes (pid 4711, python)") in world.why(0)


def test_that_a_gpu_is_busy_withdraws_nothing_because_leaving_is_the_nodes_own() -> None:
    world = a_world(FOLD)

    world.busy(0)
    world.owner()
    world.tick(5)

    assert world.granted == [("fold", ("GPU-0",))]


def test_after_one_over_all_left_single_runs_start_on_the_other_gpus() -> None:
    world = a_world(BURN, FOLD, gpus=3)
    assert world.granted == [("burn", ("GPU-0", "GPU-1", "GPU-2"))]

    world.busy(1)
    world.run_ends(world.run_ids[0], RunState.EVICTED)
    world.tick(62)

    assert world.granted == [("fold", ("GPU-0",)), ("fold", ("GPU-2",))]


def test_after_one_over_all_left_nothing_starts_where_nothing_else_is_configured() -> None:
    world = a_world(BURN, gpus=2)

    world.busy(1)
    world.run_ends(world.run_ids[0], RunState.EVICTED)
    world.tick(120)

    assert world.granted == []
    assert ("workload", "burn: GPU 1: user1 computes (pid 4711, python)") in world.why(0)
    assert ("gpu", "GPU 1: user1 computes (pid 4711, python)") in world.why_not("burn")


def test_one_over_all_waits_while_single_runs_hold_gpus() -> None:
    world = a_world(BURN, FOLD, gpus=2)
    world.busy(1)
    world.run_ends(world.run_ids[0], RunState.EVICTED)
    world.tick(62)
    assert world.granted == [("fold", ("GPU-0",))]

    world.idle(1)
    world.tick(62)

    assert world.granted == [("fold", ("GPU-0",)), ("fold", ("GPU-1",))]


def test_a_run_over_two_gpus_starts_only_when_both_are_idle() -> None:
    world = a_world(PAIR, gpus=3)
    assert world.granted == [("pair", ("GPU-0", "GPU-2"))]

    world.busy(2)
    world.run_ends(world.run_ids[0], RunState.EVICTED)
    world.tick(120)
    assert world.granted == []

    world.idle(2)
    world.tick(61)
    assert world.granted == [("pair", ("GPU-0", "GPU-2"))]
    assert len(world.known.live_runs) == 1


def test_the_first_entry_of_the_file_gets_the_gpu() -> None:
    assert a_world(FOLD, MINE, gpus=2).granted == [("fold", ("GPU-0",)), ("fold", ("GPU-1",))]
    assert a_world(PAIR, FOLD, gpus=3).granted == [
        ("pair", ("GPU-0", "GPU-2")),
        ("fold", ("GPU-1",)),
    ]


def test_gpus_that_become_idle_a_moment_apart_are_kept_for_who_wants_them_all() -> None:
    world = a_world(FOLD, BURN, gpus=2, beating=False)
    world.idle(0, for_seconds=50)
    world.idle(1, for_seconds=45)
    world.beating = True

    world.tick(12)
    assert world.granted == []
    assert ("workload", "fold: GPU 0 is kept for burn") in world.why(0)
    world.tick(6)

    assert world.granted == [("burn", ("GPU-0", "GPU-1"))]


def test_a_gpu_is_not_kept_for_long() -> None:
    world = a_world(BURN, FOLD, gpus=2, beating=False)
    world.idle(0, for_seconds=60)
    world.idle(1, for_seconds=5)
    world.beating = True

    world.tick(3)

    assert world.granted == [("fold", ("GPU-0",))]


def test_on_a_node_with_mig_devices_the_parent_is_left_alone_and_all_is_refused() -> None:
    world = a_world(BURN, FOLD, gpus=2, beating=False)
    world.hear(
        world.inventory(
            gpus=(
                GpuInventory(gpu=gpu_name(0), index=0, schedulable=False),
                GpuInventory(gpu=gpu_name(1), index=0, parent=gpu_name(0)),
            )
        )
    )
    world.beating = True
    world.tick(2)

    assert world.granted == [("fold", ("GPU-1",))]
    assert world.why(0) == [("not_schedulable", "divided into MIG devices; those are used instead")]
    assert ("mig", "one run over all GPUs is refused on a node with MIG devices") in world.why_not(
        "burn"
    )


def test_an_entry_for_a_gpu_that_is_not_there_says_so() -> None:
    world = a_world(PAIR, gpus=1)

    assert world.granted == []
    assert world.why_not("pair") == [
        ("no_gpu", "this node has no GPU 2 that can be used as a whole")
    ]


def test_an_entry_that_cannot_run_gives_way_to_the_next_and_says_why() -> None:
    broken = entry("fold", problems=("user nobdy does not exist",))

    world = a_world(broken, MINE)

    assert world.granted == [("mine", ("GPU-0",))]
    assert world.why_not("fold")[0] == ("entry", "user nobdy does not exist")


def test_a_job_does_not_start_by_itself() -> None:
    world = a_world(entry("train", kind="job"))

    assert world.granted == []
    assert world.why_not("train")[0][0] == "job"


def test_a_gpu_that_nothing_is_meant_for_says_so() -> None:
    world = a_world(entry("fold", (0,)), gpus=2)

    assert world.why(1) == [("no_workload", "no workload is meant for GPU 1")]


def test_an_entry_that_changed_or_went_is_withdrawn() -> None:
    world = a_world(FOLD, gpus=1)
    first = world.run_ids

    world.entries = (entry("fold", digest="d2"),)
    world.hear(world.catalogue())
    world.tick(2)
    assert world.known.grants[0].digest == "d2"
    assert world.run_ids != first

    world.entries = ()
    world.hear(world.catalogue())
    assert world.granted == []


def test_a_wish_says_why_a_run_is_no_longer_wished_for() -> None:
    world = a_world(FOLD, gpus=1)
    (run,) = world.run_ids

    world.request(RequestKind.PAUSE, node=world.node, reason="a new fan")

    assert world.wishes[-1].withdrawn == {run: "paused by alice: a new fan"}


def test_a_grant_that_the_node_does_not_begin_is_made_anew_with_another_id() -> None:
    world = a_world(FOLD, obeying=False)
    (first,) = world.run_ids
    world.hear(world.runner(refusals=(f"{first}: the catalogue is damaged",)))
    assert world.why_not()[0] == (
        "refused",
        f"the node refused it: {first}: the catalogue is damaged",
    )

    world.tick(58)
    assert world.run_ids == [first]
    world.tick(3)

    assert world.run_ids != [first]
    assert len(world.run_ids) == 1


def test_a_grant_is_not_called_overdue_by_a_node_that_was_away() -> None:
    world = a_world(FOLD, obeying=False)
    (first,) = world.run_ids
    world.beating = False
    world.tick(300)

    world.beating = True
    world.tick(50)
    assert world.run_ids == [first]
    world.tick(15)

    assert world.run_ids != [first]


def test_a_grant_that_has_not_begun_when_somebody_comes_is_withdrawn() -> None:
    world = a_world(FOLD, obeying=False)

    world.busy(0)
    assert world.granted == []
    world.idle(0)
    world.tick(59)
    assert world.granted == []
    world.tick(1)

    assert world.granted == [("fold", ("GPU-0",))]


def test_a_grant_that_has_not_begun_is_withdrawn_even_if_who_came_is_gone_again() -> None:
    world = a_world(FOLD, obeying=False)

    world.idle(0, for_seconds=1)

    assert world.granted == []


def test_a_grant_that_has_not_begun_when_a_person_comes_or_a_drain_is_withdrawn() -> None:
    for come in (lambda world: world.owner(), lambda world: world.request(DRAIN, node="n1")):
        world = a_world(FOLD, obeying=False)
        come(world)
        assert world.granted == []


def test_a_grant_is_not_withdrawn_because_the_node_cannot_be_heard() -> None:
    world = a_world(FOLD, obeying=False)
    world.beating = False

    world.tick(600)

    assert world.granted == [("fold", ("GPU-0",))]


def test_a_beat_that_comes_late_withdraws_nothing() -> None:
    world = a_world(FOLD, obeying=False, beating=False)
    world.idle(0, for_seconds=60)
    world.beating = True
    world.tick(1)
    assert world.granted

    world.now += timedelta(seconds=1)
    world.skew = -1
    world.beat()
    world.owner(active=False)

    assert world.granted == [("fold", ("GPU-0",))]


def test_a_run_that_is_still_leaving_keeps_its_gpu() -> None:
    world = a_world(FOLD, obeying=False)
    (grant,) = world.known.grants
    world.run_begins(grant, RunState.CLEARING)
    world.entries = ()
    world.hear(world.catalogue())

    world.entries = (MINE,)
    world.hear(world.catalogue())
    world.tick(30)

    assert world.granted == []
    assert world.why(0) == [("taken", f"fold clearing (run {grant.run})")]
