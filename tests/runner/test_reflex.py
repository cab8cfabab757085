"""Who must leave, and why; time is a number."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gleaner.bus.messages import CauseKind, GpuCondition
from services.runner.facts import Facts, with_gpu, without_gpu
from services.runner.reflex import decide
from services.runner.timing import Timing
from tests.runner.rig import gpu_state, inventory, people

TIMING = Timing()
RUNS = {"r1": ("GPU-0",), "r2": ("GPU-1",)}


def quiet(now: float = 100) -> Facts:
    """A node that is watched, with nobody there and our runs on both GPUs."""
    facts = Facts(listening_since=0, inventory=inventory(), people=people(), beat_at=now)
    for gpu in ("GPU-0", "GPU-1"):
        facts = with_gpu(facts, gpu_state(gpu, GpuCondition.OURS), now)
    return facts


def causes(facts: Facts, now: float = 100) -> dict[str, tuple[CauseKind, str]]:
    found = decide(facts, RUNS, now, TIMING)
    return {run: (cause.kind, cause.text) for run, cause in found}


def test_nobody_leaves_a_quiet_node() -> None:
    assert causes(quiet()) == {}


@pytest.mark.parametrize("state", [GpuCondition.BUSY, GpuCondition.HELD])
def test_a_stranger_takes_his_gpu_and_no_other(state: GpuCondition) -> None:
    facts = with_gpu(quiet(), gpu_state("GPU-1", state, "user1 computes (pid 4711)"), 100)

    assert causes(facts) == {"r2": (CauseKind.GPU_PROCESS, "GPU 1: user1 computes (pid 4711)")}


def test_an_active_person_takes_everything() -> None:
    facts = replace(quiet(), people=people(active=True))

    assert causes(facts) == dict.fromkeys(RUNS, (CauseKind.PERSON, "user1 is active at pts/3"))


def test_a_person_whom_nobody_watches_takes_nothing() -> None:
    assert causes(replace(quiet(), people=people(active=True, watched=False))) == {}


def test_a_lost_gpu_is_left_at_once() -> None:
    facts = with_gpu(quiet(), gpu_state("GPU-0", GpuCondition.LOST, "fell off the bus"), 100)

    assert causes(facts) == {"r1": (CauseKind.GPU_LOST, "GPU 0: fell off the bus")}


@pytest.mark.parametrize("state", [GpuCondition.UNKNOWN, GpuCondition.DIRTY])
def test_a_doubtful_gpu_is_left_after_10_s_without_a_break(state: GpuCondition) -> None:
    facts = with_gpu(quiet(), gpu_state("GPU-0", state, "no answer"), 100)
    facts = with_gpu(facts, gpu_state("GPU-0", state, "still no answer"), 108)
    facts = replace(facts, beat_at=110)

    assert causes(facts, 109.9) == {}
    assert causes(facts, 110) == {"r1": (CauseKind.GPU_UNKNOWN, "GPU 0: still no answer, for 10 s")}


def test_a_gpu_that_answers_again_is_no_longer_doubtful() -> None:
    facts = with_gpu(quiet(), gpu_state("GPU-0", GpuCondition.UNKNOWN), 100)
    facts = with_gpu(facts, gpu_state("GPU-0", GpuCondition.OURS), 105)

    assert causes(replace(facts, beat_at=120), 120) == {}


def test_a_gpu_whose_fact_was_taken_back_is_doubtful() -> None:
    facts = replace(without_gpu(quiet(), "GPU-0", 100), beat_at=110)

    assert [*causes(facts, 110)] == ["r1"]


def test_a_gpu_that_is_no_longer_in_the_node_is_lost() -> None:
    facts = replace(quiet(), inventory=inventory(("GPU-0",)))

    assert causes(facts) == {"r2": (CauseKind.GPU_LOST, "GPU 1 is no longer in this node")}


def test_without_a_completed_check_for_5_s_everybody_leaves() -> None:
    assert causes(quiet(100), 104.9) == {}
    assert causes(quiet(100), 105) == dict.fromkeys(
        RUNS, (CauseKind.NOT_WATCHED, "the collector has completed no check for 5 s")
    )


def test_a_collector_that_was_never_heard_gets_5_s() -> None:
    facts = replace(quiet(), beat_at=None, listening_since=100)

    assert (causes(facts, 104), [*causes(facts, 105)]) == ({}, ["r1", "r2"])


def test_a_node_about_whose_people_nobody_speaks_is_left() -> None:
    facts = replace(quiet(), people=None, listening_since=95)

    assert (causes(facts, 104), [*causes(replace(facts, beat_at=105), 105)]) == ({}, ["r1", "r2"])


def test_a_paused_node_is_left() -> None:
    facts = replace(quiet(), paused="paused by user1")

    assert causes(facts) == dict.fromkeys(RUNS, (CauseKind.PAUSED, "paused by user1"))


def test_a_run_over_two_gpus_leaves_for_either() -> None:
    facts = with_gpu(quiet(), gpu_state("GPU-1", GpuCondition.BUSY), 100)

    assert [run for run, _ in decide(facts, {"r": ("GPU-0", "GPU-1")}, 100, TIMING)] == ["r"]


@given(st.sampled_from(GpuCondition), st.booleans(), st.floats(0, 1000))
def test_no_run_ever_stays_where_a_person_is(state: GpuCondition, active: bool, now: float) -> None:
    facts = with_gpu(replace(quiet(now), people=people(active)), gpu_state("GPU-0", state), now)
    somebody = active or state in (GpuCondition.BUSY, GpuCondition.HELD)

    assert ("r1" in dict(decide(facts, RUNS, now, TIMING))) >= somebody
