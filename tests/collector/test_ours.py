"""Whose process it is."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from gleaner.bus.messages import Run, RunState
from services.collector.interface import Process
from services.collector.processes.ours import run_of
from tests.builders import NOW


def a_run(run: str = "r1", **changes: Any) -> Run:
    values: dict[str, Any] = {
        "node": "n1", "entry": "fold", "digest": "d", "gpus": ("GPU-0",),
        "state": RunState.RUNNING, "reason": "", "term": 1, "at": NOW,
    }  # fmt: skip
    return Run(run=run, **(values | changes))


def a_process(pid: int, parent: int = 1, ticks: int = 100, **changes: Any) -> Process:
    values: dict[str, Any] = {"cgroup": "/user.slice", "token": None} | changes
    return Process(
        pid=pid, started_ticks=ticks, started_at=NOW, parent_pid=parent, user_id=0, user="root",
        program="python", command="python", **values,
    )  # fmt: skip


def found(process: Process, *runs: Run, others: tuple[Process, ...] = ()) -> str | None:
    run = run_of(process, {one.pid: one for one in others}.get, runs)
    return run.run if run else None


def test_a_process_in_a_runs_cgroup_is_ours() -> None:
    run = a_run(cgroup="/gleaner/r1")

    assert found(a_process(9, cgroup="/gleaner/r1"), run) == "r1"
    assert found(a_process(9, cgroup="/gleaner/r1/inner"), run) == "r1"
    assert found(a_process(9, cgroup="/gleaner/r10"), run) is None


def test_a_run_without_a_cgroup_of_its_own_owns_nobody_by_it() -> None:
    for path in ("", "/", None):
        assert found(a_process(9, cgroup="/anything"), a_run(cgroup=path)) is None


def test_a_grandchild_of_the_supervisor_is_ours() -> None:
    run = a_run(supervisor_pid=5, supervisor_started_ticks=77)
    family = (a_process(5, ticks=77), a_process(6, 5))

    assert found(a_process(7, 6), run, others=family) == "r1"


def test_a_pid_that_was_used_again_is_not_the_supervisor() -> None:
    run = a_run(supervisor_pid=5, supervisor_started_ticks=77)

    assert found(a_process(7, 5), run, others=(a_process(5, ticks=78),)) is None


def test_the_token_makes_it_ours_where_nothing_else_does() -> None:
    run = a_run(token_digest=hashlib.sha256(b"secret").hexdigest())

    assert found(a_process(7, token="secret"), run) == "r1"
    assert found(a_process(7, token="wrong"), run) is None


def test_the_digest_in_the_runs_fact_is_no_token() -> None:
    digest = hashlib.sha256(b"secret").hexdigest()

    assert found(a_process(7, token=digest), a_run(token_digest=digest)) is None


def test_a_token_that_was_read_from_a_workload_is_a_strangers_while_its_supervisor_lives() -> None:
    run = a_run(
        token_digest=hashlib.sha256(b"secret").hexdigest(),
        supervisor_pid=5,
        supervisor_started_ticks=77,
    )
    thief = a_process(9, token="secret")

    assert found(thief, run, others=(a_process(5, ticks=77),)) is None
    assert found(thief, run, others=(a_process(5, ticks=78),)) == "r1"


@pytest.mark.parametrize("state", [RunState.CLEARING, RunState.EVICTED, RunState.LOST])
def test_the_token_of_a_run_that_has_ended_is_worth_nothing(state: RunState) -> None:
    run = a_run(token_digest=hashlib.sha256(b"secret").hexdigest(), state=state)

    assert found(a_process(7, token="secret"), run) is None


def test_parents_that_go_round_in_a_circle_end_somewhere() -> None:
    run = a_run(supervisor_pid=5, supervisor_started_ticks=77)

    assert found(a_process(7, 8), run, others=(a_process(8, 7), a_process(7, 8))) is None


def test_everybody_else_is_a_stranger() -> None:
    run = a_run(cgroup="/g/r1", supervisor_pid=5, supervisor_started_ticks=7, token_digest="ab")

    assert found(a_process(9), run) is None
    assert found(a_process(9)) is None
