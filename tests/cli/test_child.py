"""Real child processes: started again when they die, ended for certain when they must."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gleaner.cli.machine.child import Child, Program
from tests.builders import until

pytestmark = pytest.mark.real

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""


def program(*command: str, grace_seconds: float = 5) -> Program:
    return Program(
        name="it", command=command, environment=dict(os.environ), grace_seconds=grace_seconds
    )


@asynccontextmanager
async def kept(wanted: Program) -> AsyncIterator[Child]:
    child = Child(wanted)
    keeping = asyncio.create_task(child.keep())
    try:
        await until(lambda: child.pid is not None or keeping.done())
        yield child
    finally:
        hurry = asyncio.Event()
        hurry.set()
        await child.stop(hurry)
        await keeping


def alive(pid: int | None) -> bool:
    return pid is not None and Path("/proc", str(pid)).exists()


async def test_what_dies_is_started_again() -> None:
    async with kept(program("sleep", "600")) as child:
        first = child.pid
        assert first is not None

        os.kill(first, signal.SIGKILL)

        await until(lambda: child.pid not in (None, first), 2)


async def test_what_is_stopped_stays_stopped() -> None:
    async with kept(program("sleep", "600")) as child:
        pid = child.pid

        await child.stop(asyncio.Event())

        assert child.pid is None
        assert not alive(pid)


async def test_who_ignores_term_is_killed_when_grace_is_over() -> None:
    async with kept(program(sys.executable, "-c", STUBBORN, grace_seconds=0.2)) as child:
        pid = child.pid
        await until(lambda: _ignores_term(pid))

        await child.stop(asyncio.Event())

        assert not alive(pid)


async def test_somebody_in_a_hurry_does_not_wait_for_grace() -> None:
    async with kept(program(sys.executable, "-c", STUBBORN, grace_seconds=600)) as child:
        pid, hurry = child.pid, asyncio.Event()
        await until(lambda: _ignores_term(pid))
        stopping = asyncio.create_task(child.stop(hurry))

        hurry.set()

        await asyncio.wait_for(stopping, 5)
        assert not alive(pid)


async def test_what_a_child_left_in_its_session_is_ended_with_it(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    script = f"sleep 600 & echo $! > {file}; wait"
    async with kept(program("sh", "-c", script)) as child:
        await until(lambda: file.exists() and file.read_text().strip() != "")
        left = int(file.read_text())

        await child.stop(asyncio.Event())

        await until(lambda: not _runs(left))


async def test_wrong_settings_are_not_tried_again() -> None:
    async with kept(program("sh", "-c", "exit 2")) as child:
        await until(lambda: child.gave_up)


async def test_a_program_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    child = Child(program("/nowhere/program"))
    keeping = asyncio.create_task(child.keep())
    said: list[str] = []

    def has_said() -> bool:
        said.append(capsys.readouterr().err)
        return "/nowhere/program: No such file or directory" in "".join(said)

    await until(has_said)
    await child.stop(asyncio.Event())
    await keeping


@pytest.mark.parametrize("user", [None, 65534])
def test_a_child_dies_with_its_parent_also_as_another_user(user: int | None) -> None:
    code = f"""
import asyncio
from gleaner.cli.machine.child import Child, Program

async def main():
    user = {None if user is None else (user, user)}
    child = Child(Program(name="it", command=("sleep", "600"), environment={{}}, user=user))
    task = asyncio.create_task(child.keep())
    while child.pid is None:
        await asyncio.sleep(0.01)
    print(child.pid, flush=True)
    await task

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert Path("/proc", str(pid)).stat().st_uid == (os.getuid() if user is None else user)
        parent.kill()

    _wait(lambda: not _runs(pid))


def _ignores_term(pid: int | None) -> bool:
    text = Path("/proc", str(pid), "status").read_text()
    ignored = next(line for line in text.splitlines() if line.startswith("SigIgn:"))
    return bool(int(ignored.split()[1], 16) & 1 << (signal.SIGTERM - 1))


def _runs(pid: int) -> bool:
    """Whether a process is there and no mere zombie of somebody else's."""
    try:
        text = Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def _wait(condition: Callable[[], bool]) -> None:
    asyncio.run(until(condition))
