"""The life of a run, told in nanoseconds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gleaner.bus.messages import Cause, CauseKind, RunState, Stages
from services.runner import leaving
from services.runner.leaving import Life

SECOND = 1_000_000_000
PERSON = Cause(kind=CauseKind.PERSON, text="user1 is active at pts/3")


def running(grace_seconds: float = 5) -> Life:
    return leaving.started(Life(grace_seconds=grace_seconds, clearing_seconds=30))


def stopping(cause: Cause = PERSON, grace_seconds: float = 5) -> Life:
    """TERM was sent 1 s after somebody was noticed."""
    asked = leaving.asked_to_leave(running(grace_seconds), cause, 10 * SECOND)
    return leaving.signalled(asked, 11 * SECOND)


def ended(life: Life, code: int | None = None, number: int | None = None) -> Life:
    return leaving.exited(life, 13 * SECOND, code=code, number=number, problem=None)


def test_each_stage_of_leaving_is_measured() -> None:
    life = leaving.cleared(ended(stopping(), number=15), 17 * SECOND)

    assert leaving.stages(life) == Stages(
        noticed_to_term=1, term_to_exit=2, exit_to_clear=4, noticed_to_clear=7
    )


@pytest.mark.parametrize(("code", "number"), [(0, None), (3, None), (None, 15), (None, 9)])
def test_an_evicted_run_never_failed_however_it_ended(code: int | None, number: int | None) -> None:
    life = leaving.cleared(ended(stopping(), code, number), 14 * SECOND)

    assert (life.state, leaving.reason(life)) == (
        RunState.EVICTED,
        "evicted: user1 is active at pts/3",
    )


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (CauseKind.GPU_PROCESS, RunState.EVICTED),
        (CauseKind.PAUSED, RunState.EVICTED),
        (CauseKind.NOT_WATCHED, RunState.EVICTED),
        (CauseKind.NOT_DESIRED, RunState.CANCELLED),
        (CauseKind.SHUTDOWN, RunState.CANCELLED),
        (CauseKind.CATALOGUE, RunState.CANCELLED),
        (CauseKind.SUPERVISOR_GONE, RunState.LOST),
    ],
)
def test_the_cause_decides_the_final_state(kind: CauseKind, state: RunState) -> None:
    life = leaving.cleared(ended(stopping(Cause(kind=kind, text="why"))), 14 * SECOND)

    assert life.state is state


@pytest.mark.parametrize(
    ("code", "number", "state", "reason"),
    [
        (0, None, RunState.SUCCEEDED, "succeeded: ended by itself with exit status 0"),
        (3, None, RunState.FAILED, "failed: ended by itself with exit status 3"),
        (None, 11, RunState.FAILED, "failed: ended by signal 11 (SIGSEGV)"),
    ],
)
def test_a_run_that_ends_by_itself_is_judged_by_its_status(
    code: int | None, number: int | None, state: RunState, reason: str
) -> None:
    life = leaving.cleared(ended(running(), code, number), 14 * SECOND)

    assert (life.state, leaving.reason(life), leaving.stages(life)) == (state, reason, None)


def test_grace_is_counted_from_the_signal() -> None:
    assert stopping(grace_seconds=5).due_ns == 16 * SECOND


def test_after_its_grace_a_run_is_killed_and_the_reason_says_so() -> None:
    life = leaving.signalled(leaving.out_of_grace(stopping()), 16 * SECOND)
    life = leaving.cleared(ended(life, number=9), 17 * SECOND)

    assert leaving.reason(life) == (
        "evicted: user1 is active at pts/3; killed after a grace of 5 s"
    )


def test_a_grace_of_0_kills_at_once() -> None:
    life = leaving.asked_to_leave(running(0), PERSON, 10 * SECOND)

    assert life.state is RunState.KILLING


def test_a_second_cause_changes_nothing() -> None:
    life = stopping()
    paused = Cause(kind=CauseKind.PAUSED, text="paused")

    assert leaving.asked_to_leave(life, paused, 12 * SECOND) is life


def test_memory_that_does_not_come_back_is_waited_for_30_s_and_then_said() -> None:
    life = ended(stopping(), number=15)

    assert life.due_ns == 43 * SECOND
    assert leaving.reason(leaving.cleared(life, None)) == (
        "evicted: user1 is active at pts/3; memory not given back, as far as anybody saw"
    )


def test_what_never_started_leaves_no_memory_to_wait_for() -> None:
    life = Life(grace_seconds=5, clearing_seconds=30)
    life = leaving.exited(life, 1, code=None, number=None, problem="cannot run ./fold: not found")

    assert (life.state, leaving.reason(life)) == (
        RunState.FAILED,
        "failed: cannot run ./fold: not found",
    )


def test_a_shutdown_cuts_a_long_grace_short_and_leaves_a_short_one() -> None:
    graces = [leaving.hurried(running(grace), 10).grace_seconds for grace in (3600, 2)]

    assert graces == [10, 2]


def test_a_run_of_which_nothing_is_known_is_lost_unless_a_cause_was_journalled() -> None:
    told = replace(running(), cause=PERSON)

    assert [
        leaving.lost(life, "the machine was restarted").state for life in (running(), told)
    ] == [
        RunState.LOST,
        RunState.EVICTED,
    ]
