"""Leaving with everything: wrappers, grandchildren, daemons, and those who do not listen."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from gleaner.bus.interface import Delivery
from gleaner.bus.messages import CauseKind, GpuCondition, Run, RunState
from services.runner import cgroup
from services.runner.cgroup import Cgroups
from services.runner.launcher import Launcher
from services.runner.process import ProcessLauncher
from services.runner.supervisor.processes import start_ticks
from tests.builders import until
from tests.python import python_for_others
from tests.runner.rig import QUICK, Rig, gpu_state, is_alive, people, workload
from tests.system import processes_with

pytestmark = pytest.mark.real

DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1], "w").write(str(os.getpid()) + "\\n")
        time.sleep(1000)
    os._exit(0)
time.sleep(1000)
"""

FAMILY = """
import os, signal, sys
pids = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def live():
    os.write(pids, f"{os.getpid()}\\n".encode())
    while True:
        signal.pause()
def come_again(*_):
    if os.fork():
        os._exit(0)
for number in range(300):
    if os.fork() == 0:
        if number % 3 == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
        if number % 5 == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        elif number % 7 == 0:
            signal.signal(signal.SIGTERM, come_again)
        live()
live()
"""
"""Three hundred: daemons, some that ignore TERM, and some that answer it with another child."""


@pytest.fixture(params=["cgroup", "no cgroup"])
def cgroups(request: pytest.FixtureRequest) -> Cgroups | None:
    """Where runs have a cgroup of their own, and where they cannot."""
    if request.param == "no cgroup":
        return None
    found = cgroup.find()
    assert found, "this machine has no cgroup v2 that we may write (root may)"
    return found


@pytest.fixture
def launcher(tmp_path: Path, cgroups: Cgroups | None) -> Launcher:
    return ProcessLauncher(tmp_path / "node" / "beat", cgroups, QUICK)


async def read_pids(path: Path, count: int = 1) -> list[int]:
    """Wait until a workload has written the pids of its processes."""
    await until(lambda: path.exists() and len(path.read_text().splitlines()) >= count)
    return [int(line) for line in path.read_text().split()]


async def test_a_stranger_ends_one_run_and_leaves_the_other(
    tmp_path: Path, launcher: Launcher
) -> None:
    async with Rig(tmp_path, workload(), launcher=launcher).running() as rig:
        await rig.launched("r1", "r2")
        pid, other = rig.facts["r1"].pid, rig.facts["r2"].pid
        rig.bus.publish(gpu_state("GPU-0", GpuCondition.BUSY, "user1 computes"))

        fact = await rig.is_over("r1")
        assert (fact.state, fact.exit_signal) == (RunState.EVICTED, signal.SIGTERM)
        assert pid
        assert other
        assert (is_alive(pid), is_alive(other), rig.facts["r2"].pid) == (False, True, other)


async def test_a_grandchild_behind_a_wrapper_is_told_and_gone(
    tmp_path: Path, launcher: Launcher
) -> None:
    pids = tmp_path / "pids"
    command = f"sh -c 'sleep 1000 & echo $! > {pids}; wait'"
    async with Rig(tmp_path, workload(command), launcher=launcher).running() as rig:
        await rig.launched()
        (grandchild,) = await read_pids(pids)
        rig.bus.publish(people(active=True))
        fact = await rig.is_over()

        assert not is_alive(grandchild)
        assert fact.killed_at is None


async def test_a_daemon_that_forked_twice_and_left_the_session_is_gone_too(
    tmp_path: Path, launcher: Launcher
) -> None:
    pids, script = tmp_path / "pids", tmp_path / "daemon.py"
    script.write_text(DAEMON)
    command = f"{python_for_others()} -I -S {script} {pids}"
    async with Rig(tmp_path, workload(command), launcher=launcher).running() as rig:
        await rig.launched()
        (daemon,) = await read_pids(pids)
        rig.bus.publish(people(active=True))
        await rig.is_over()

        assert not is_alive(daemon)


async def test_a_family_of_three_hundred_is_gone_in_time(
    tmp_path: Path, launcher: Launcher
) -> None:
    pids, script = tmp_path / "pids", tmp_path / "family.py"
    script.write_text(FAMILY)
    entry = workload(f"{python_for_others()} -I -S {script} {pids}", grace_seconds=0.5)
    async with Rig(tmp_path, entry, launcher=launcher).running() as rig:
        await rig.launched()
        family = await read_pids(pids, 301)
        rig.bus.publish(people(active=True))
        fact = await rig.is_over()

        assert [pid for pid in family if is_alive(pid)] == []
        assert processes_with(str(script)) == {}
        assert fact.stages.term_to_exit
        assert fact.stages.term_to_exit < 5


async def test_a_run_lasts_as_long_as_any_of_its_processes(
    tmp_path: Path, launcher: Launcher
) -> None:
    pids = tmp_path / "pids"
    command = f"sh -c 'sleep 1000 & echo $! > {pids}; exit 4'"
    async with Rig(tmp_path, workload(command), launcher=launcher).running() as rig:
        await rig.launched()
        (left,) = await read_pids(pids)
        assert rig.facts["r1"].state is RunState.RUNNING
        os.kill(left, signal.SIGKILL)

        assert (await rig.is_over()).exit_code == 4


async def test_who_ignores_term_is_killed_after_the_grace_and_that_is_said(
    tmp_path: Path, launcher: Launcher
) -> None:
    pids = tmp_path / "pids"
    command = f"""sh -c 'trap "" TERM; sleep 1000 & echo $! > {pids}; wait; sleep 1000'"""
    entry = workload(command, grace_seconds=0.3)
    async with Rig(tmp_path, entry, launcher=launcher).running() as rig:
        await rig.launched()
        (grandchild,) = await read_pids(pids)
        rig.bus.publish(people(active=True))
        fact = await rig.is_over()

        assert fact.reason == "evicted: user1 is active at pts/3; killed after a grace of 0.3 s"
        assert fact.killed_at
        assert fact.term_sent_at
        assert (fact.killed_at - fact.term_sent_at).total_seconds() >= 0.29
        assert not is_alive(grandchild)
        assert [event["state"] for event in rig.events("r1")][2:] == [
            "stopping", "killing", "clearing", "evicted",
        ]  # fmt: skip


async def test_a_grace_of_0_kills_at_once(tmp_path: Path, launcher: Launcher) -> None:
    entry = workload("sh -c 'trap \"\" TERM; sleep 1000; sleep 1000'", grace_seconds=0)
    async with Rig(tmp_path, entry, launcher=launcher).running() as rig:
        await rig.launched()
        rig.bus.publish(people(active=True))
        fact = await rig.is_over()

        assert (fact.exit_signal, fact.term_sent_at) == (signal.SIGKILL, None)


async def test_who_exits_kindly_within_the_grace_did_not_fail(
    tmp_path: Path, launcher: Launcher
) -> None:
    pids = tmp_path / "pids"
    command = f"""sh -c 'trap "exit 7" TERM; echo $$ > {pids}; while :; do sleep 0.01; done'"""
    async with Rig(tmp_path, workload(command), launcher=launcher).running() as rig:
        await rig.launched()
        await read_pids(pids)
        rig.bus.publish(people(active=True))
        fact = await rig.is_over()

        assert (fact.state, fact.exit_code) == (RunState.EVICTED, 7)


async def test_everything_is_killed_when_the_supervisor_is(
    tmp_path: Path, launcher: Launcher
) -> None:
    pids = tmp_path / "pids"
    command = f"sh -c 'sleep 1000 & echo $! > {pids}; setsid sleep 1000 & echo $! >> {pids}; wait'"
    async with Rig(tmp_path, workload(command), launcher=launcher).running() as rig:
        await rig.launched()
        children = await read_pids(pids, 2)
        held = rig.facts["r1"]
        assert held.supervisor_pid
        os.kill(held.supervisor_pid, signal.SIGKILL)
        fact = await rig.is_over()

        assert (fact.state, fact.cause and fact.cause.kind) == (
            RunState.LOST,
            CauseKind.SUPERVISOR_GONE,
        )
        assert held.pid
        assert [pid for pid in (held.pid, *children) if is_alive(pid)] == []


async def test_a_service_that_stops_leaves_no_process(tmp_path: Path, launcher: Launcher) -> None:
    entry = workload("sh -c 'trap \"\" TERM; sleep 1000 & wait; sleep 1000'", grace_seconds=0.2)
    async with Rig(tmp_path, entry, launcher=launcher).running() as rig:
        await rig.launched("r1", "r2")
        held = [*rig.facts.values()]
        await rig.stop()

        pids = [pid for fact in held for pid in (fact.pid, fact.supervisor_pid)]
        assert [pid for pid in pids if pid and is_alive(pid)] == []
        assert {fact.state for fact in rig.facts.values()} == {RunState.CANCELLED}


async def test_a_run_that_must_leave_before_it_began_never_begins(
    tmp_path: Path, launcher: Launcher
) -> None:
    marker = tmp_path / "marker"
    rig = Rig(tmp_path, workload(f"touch {marker}"), launcher=launcher)

    def come_back(delivery: Delivery) -> None:
        if isinstance(delivery.message, Run) and delivery.message.state is RunState.STARTING:
            rig.bus.publish(people(active=True))

    async with rig.running():
        rig.bus.subscribe(Run, come_back)
        fact = await rig.launched_and_over()

        assert (fact.state, fact.pid, marker.exists()) == (RunState.EVICTED, None, False)


async def test_the_group_of_a_run_is_removed_with_it(
    tmp_path: Path, launcher: Launcher, cgroups: Cgroups | None
) -> None:
    async with Rig(tmp_path, workload(), launcher=launcher).running() as rig:
        await rig.launched()
        held = rig.facts["r1"]
        assert (held.cgroup is not None) == (cgroups is not None)
        rig.bus.publish(people(active=True))
        await rig.is_over()

    if cgroups is not None:
        assert held.cgroup
        assert not (cgroups.mount / held.cgroup.lstrip("/")).exists()


async def test_a_supervisor_is_in_no_group_of_its_run(tmp_path: Path) -> None:
    async with Rig(tmp_path, workload()).running() as rig:
        await rig.launched()
        fact = rig.facts["r1"]
        assert fact.cgroup
        groups = [
            Path(f"/proc/{pid}/cgroup").read_text() for pid in (fact.pid, fact.supervisor_pid)
        ]

        assert [f"0::{fact.cgroup}\n" in text for text in groups] == [True, False]
        assert fact.supervisor_pid
        assert start_ticks(fact.supervisor_pid) == fact.supervisor_started_ticks
