"""A runner that is killed, stopped or started anew: what runs goes on, and nothing starts twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders import until
from tests.runner.rig import is_alive

pytestmark = pytest.mark.real


class Agent:
    """A runner in another process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.runs: dict[str, dict[str, Any]] = {}
        self.states: list[tuple[str, str]] = []
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout
        async for line in self.process.stdout:
            said = json.loads(line)
            if "entry" in said:
                self.runs[said["run"]] = said
                self.states.append((said["run"], said["state"]))

    async def reached(self, run: str, state: str, seconds: float = 10) -> dict[str, Any]:
        await until(lambda: self.runs.get(run, {}).get("state") == state, seconds)
        return self.runs[run]

    async def end(self, number: signal.Signals) -> None:
        if self.process.returncode is None:
            self.process.send_signal(number)
        await self.process.wait()
        await self._reader


@contextlib.asynccontextmanager
async def agent(directory: Path, command: str, **options: Any) -> AsyncIterator[Agent]:
    """Start one; kill it at the end, if the test has not."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.runner.agent",
        str(directory),
        json.dumps({"command": command, **options}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=2**20,
    )
    found = Agent(process)
    try:
        yield found
    finally:
        await found.end(signal.SIGTERM)


@pytest.fixture(params=[True, False], ids=["cgroup", "no cgroup"])
def has_cgroup(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def test_a_killed_runner_finds_its_runs_again_and_touches_nothing(
    tmp_path: Path, has_cgroup: bool
) -> None:
    options = {"wish": ["r1", "r2"], "cgroup": has_cgroup}
    async with agent(tmp_path, "sleep 1000", **options) as first:
        before = [await first.reached(run, "running") for run in ("r1", "r2")]
        await first.end(signal.SIGKILL)
    async with agent(tmp_path, "sleep 1000", **options) as second:
        after = [await second.reached(run, "running") for run in ("r1", "r2")]

        assert [fact["pid"] for fact in after] == [fact["pid"] for fact in before]
        assert all(is_alive(fact["pid"]) for fact in after)
        assert {state for _, state in second.states} == {"running"}
        second.process.terminate()
        await until(lambda: not any(is_alive(fact["pid"]) for fact in after))


async def test_an_adopted_run_leaves_as_any_other(tmp_path: Path, has_cgroup: bool) -> None:
    async with agent(tmp_path, "sleep 1000", wish=["r1"], cgroup=has_cgroup) as first:
        pid = (await first.reached("r1", "running"))["pid"]
        await first.end(signal.SIGKILL)
    async with agent(tmp_path, "sleep 1000", wish=[], cgroup=has_cgroup) as second:
        fact = await second.reached("r1", "cancelled")

        assert (fact["cause"]["kind"], fact["exit_signal"], is_alive(pid)) == (
            "not_desired",
            signal.SIGTERM,
            False,
        )


async def test_an_exit_status_is_not_lost_while_the_runner_is_away(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    command = f"sh -c 'while ! test -e {marker}; do sleep 0.02; done; exit 3'"
    async with agent(tmp_path, command, wish=["r1"]) as first:
        held = await first.reached("r1", "running")
        await first.end(signal.SIGKILL)
    marker.touch()
    await until(lambda: not is_alive(held["supervisor_pid"]))
    async with agent(tmp_path, command, wish=["r1"]) as second:
        fact = await second.reached("r1", "failed")

        assert (fact["exit_code"], fact["pid"]) == (3, held["pid"])


async def test_a_run_that_ended_never_starts_again_after_a_restart(tmp_path: Path) -> None:
    count = tmp_path / "count"
    command = f"sh -c 'echo once >> {count}'"
    async with agent(tmp_path, command, wish=["r1"]) as first:
        await first.reached("r1", "succeeded")
        await first.end(signal.SIGKILL)
    async with agent(tmp_path, command, wish=["r1", "r2"]) as second:
        await second.reached("r2", "succeeded")

    assert count.read_text() == "once\n" * 2


@pytest.mark.parametrize("trap", ["", 'trap "" TERM;'], ids=["kind", "ignores TERM"])
async def test_without_a_runner_the_supervisor_ends_the_workload(
    tmp_path: Path, has_cgroup: bool, trap: str
) -> None:
    pids = tmp_path / "pids"
    command = f"sh -c '{trap} sleep 1000 & echo $! > {pids}; wait; wait; sleep 1000'"
    options = {"wish": ["r1"], "cgroup": has_cgroup, "dead_man": [0.6, 1.2], "grace": 3600}
    async with agent(tmp_path, command, **options) as first:
        held = await first.reached("r1", "running")
        await until(lambda: pids.exists() and bool(pids.read_text()))
        await first.end(signal.SIGKILL)
        killed_at = time.monotonic()
    everybody = (held["pid"], int(pids.read_text()), held["supervisor_pid"])
    await until(lambda: not any(is_alive(pid) for pid in everybody))
    took = time.monotonic() - killed_at

    assert 0.4 <= took <= 2.5
    async with agent(tmp_path, command, **options) as second:
        fact = await second.reached("r1", "evicted")
        assert fact["cause"]["kind"] == "not_watched"
        assert "the agent was silent for" in fact["reason"]


async def test_a_runner_that_hangs_counts_as_gone(tmp_path: Path) -> None:
    options = {"wish": ["r1"], "dead_man": [0.6, 1.2]}
    async with agent(tmp_path, "sleep 1000", **options) as hung:
        pid = (await hung.reached("r1", "running"))["pid"]
        hung.process.send_signal(signal.SIGSTOP)
        await until(lambda: not is_alive(pid))
        hung.process.send_signal(signal.SIGCONT)

        assert (await hung.reached("r1", "evicted"))["cause"]["kind"] == "not_watched"


async def test_a_killed_runner_and_supervisor_leave_nothing_behind_a_restart(
    tmp_path: Path, has_cgroup: bool
) -> None:
    pids = tmp_path / "pids"
    command = f"sh -c 'sleep 1000 & echo $! > {pids}; wait'"
    options = {"wish": ["r1"], "cgroup": has_cgroup}
    async with agent(tmp_path, command, **options) as first:
        held = await first.reached("r1", "running")
        await until(lambda: pids.exists() and bool(pids.read_text()))
        await first.end(signal.SIGKILL)
    os.kill(held["supervisor_pid"], signal.SIGKILL)
    await until(lambda: not is_alive(held["pid"]))
    async with agent(tmp_path, command, **options) as second:
        fact = await second.reached("r1", "lost")

        assert fact["reason"].startswith("lost: it ended while the runner or the machine was away")
        grandchild = int(pids.read_text())
        await until(lambda: not is_alive(grandchild))


async def test_after_a_reboot_a_run_is_lost_and_no_process_of_that_number_is_touched(
    tmp_path: Path,
) -> None:
    async with agent(tmp_path, "sleep 1000", wish=["r1"]) as first:
        held = await first.reached("r1", "running")
        await first.end(signal.SIGKILL)
    path = tmp_path / "node" / "runs" / "r1" / "spec.json"
    spec = json.loads(path.read_text())
    path.write_text(json.dumps({**spec, "boot_id": "another"}))
    async with agent(tmp_path, "sleep 1000", wish=["r1"]) as second:
        await second.reached("r1", "lost")

        assert is_alive(held["pid"])
    os.kill(held["supervisor_pid"], signal.SIGKILL)
    await until(lambda: not is_alive(held["pid"]))
    os.rmdir(spec["cgroup"])


async def test_a_run_whose_entry_was_changed_meanwhile_is_ended(tmp_path: Path) -> None:
    async with agent(tmp_path, "sleep 1000", wish=["r1"]) as first:
        await first.reached("r1", "running")
        await first.end(signal.SIGKILL)
    async with agent(tmp_path, "sleep 1001", wish=["r1"]) as second:
        fact = await second.reached("r1", "cancelled")

        assert fact["reason"] == "cancelled: entry fold was changed or removed"


async def test_a_journal_with_half_a_line_still_tells(tmp_path: Path) -> None:
    async with agent(tmp_path, "sleep 1000", wish=["r1"]) as first:
        held = await first.reached("r1", "running")
        await first.end(signal.SIGKILL)
    with (tmp_path / "node" / "runs" / "r1" / "journal").open("a") as journal:
        journal.write('{"run": {"node": "n')
    async with agent(tmp_path, "sleep 1000", wish=["r1"]) as second:
        assert (await second.reached("r1", "running"))["pid"] == held["pid"]
        second.process.terminate()
        await until(lambda: not is_alive(held["pid"]))
