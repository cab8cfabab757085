"""What every launcher must do, asked of the real one and of the simulated one alike."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.runner.beat import BeatFile
from services.runner.launcher import NEVER_STARTED, Handle, Launcher, Order, Report
from services.runner.process import ProcessLauncher
from services.runner.simulated import SimulatedLauncher
from services.runner.timing import Timing
from tests.builders import until
from tests.runner.rig import workload

pytestmark = pytest.mark.real


@pytest.fixture(params=["real", "simulated"])
def launcher(request: pytest.FixtureRequest, tmp_path: Path) -> Launcher:
    if request.param == "simulated":
        return SimulatedLauncher()
    beat = BeatFile(tmp_path / "beat")
    beat.write()
    beat.close()
    return ProcessLauncher(tmp_path / "beat", None, Timing())


class Started:
    """A run that waits for go, and what was said about it."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.handle: Handle

    async def reached(self, state: str) -> Report:
        await until(lambda: bool(self.reports) and self.reports[-1].state == state)
        return self.reports[-1]


@asynccontextmanager
async def started(launcher: Launcher, directory: Path) -> AsyncIterator[Started]:
    order = Order(
        run="r1",
        entry=workload("sleep 1000"),
        environment={"PATH": "/usr/bin:/bin", "GLEANER_RUN_TOKEN": "t"},
        account=None,
        directory=directory,
    )
    spec, _ = launcher.prepare(order)
    write_spec(directory, spec)
    found = Started()
    found.handle = launcher.start(spec, found.reports.append)
    yield found
    found.handle.close()
    launcher.forget(spec)


def write_spec(directory: Path, spec: object) -> None:
    (directory / "spec.json").write_text(json.dumps(spec))


async def test_nothing_runs_before_it_is_let_go(launcher: Launcher, tmp_path: Path) -> None:
    async with started(launcher, tmp_path) as run:
        run.handle.call_off()

        assert (await run.reached("ended")).problem == NEVER_STARTED


async def test_a_run_has_a_supervisor_from_the_first_moment(
    launcher: Launcher, tmp_path: Path
) -> None:
    async with started(launcher, tmp_path) as run:
        assert run.handle.supervisor_pid > 1
        run.handle.call_off()
        await run.reached("ended")


async def test_a_run_that_was_let_go_says_its_pid(launcher: Launcher, tmp_path: Path) -> None:
    async with started(launcher, tmp_path) as run:
        run.handle.go()
        running = await run.reached("running")
        run.handle.kill()
        await run.reached("ended")

        assert running.pid
        assert running.pid != run.handle.supervisor_pid
        assert running.started_at


async def test_a_run_that_is_told_to_end_ends_by_term(launcher: Launcher, tmp_path: Path) -> None:
    async with started(launcher, tmp_path) as run:
        run.handle.go()
        await run.reached("running")
        told_ns = run.handle.terminate()
        ended = await run.reached("ended")

        assert ended.exit_signal == 15
        assert ended.exited_ns
        assert ended.exited_ns >= told_ns


async def test_a_run_that_is_killed_ends_by_kill(launcher: Launcher, tmp_path: Path) -> None:
    async with started(launcher, tmp_path) as run:
        run.handle.go()
        await run.reached("running")
        run.handle.kill()

        assert (await run.reached("ended")).exit_signal == 9


async def test_an_end_is_said_once(launcher: Launcher, tmp_path: Path) -> None:
    async with started(launcher, tmp_path) as run:
        run.handle.go()
        await run.reached("running")
        run.handle.terminate()
        await run.reached("ended")
        run.handle.kill()
        run.handle.look()

        assert [report.state for report in run.reports].count("ended") == 1
