"""The thin thread through the whole system: everything real, from a device to the page."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from gleaner.cli.machine.broker import free_port
from services.recorder.values.packing import unpack
from tests.system import Stranger, System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    somebody = Stranger()
    yield somebody
    somebody.end()


def recorded(directory: Path, kind: str) -> list[dict[str, object]]:
    """Return the data of all recorded events of a kind; none while there is no database yet."""
    path = directory / "data" / "recorder" / "gleaner.sqlite"
    wanted = "SELECT data FROM event WHERE kind = ? ORDER BY sequence"
    with (
        contextlib.suppress(sqlite3.OperationalError),
        contextlib.closing(sqlite3.connect(path)) as database,
    ):
        return [json.loads(unpack(row[0])) for row in database.execute(wanted, (kind,))]
    return []


def priority(pid: int | None) -> int:
    """Return the nice value of a process: lower goes first."""
    assert pid
    return os.getpriority(os.PRIO_PROCESS, pid)


def on_the_page(port: int) -> str:
    """Return the server-rendered page."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize("apart", [False, True], ids=["one process", "two processes"])
async def test_a_stranger_opens_a_device_and_our_run_leaves_and_everybody_knows(
    common_path: Path, stranger: Stranger, apart: bool
) -> None:
    port = free_port()
    system = System(
        common_path,
        apart=apart,
        services=("scheduler", "recorder", "web"),
        more=f'[web]\nlisten = "127.0.0.1:{port}"',
    )
    async with system:
        await system.until(lambda: len(system.runs()) == 2, 30)
        run, other = system.run_on(0), system.run_on(1)
        assert run
        assert other
        assert {priority(system.processes[name].pid) for name in system.names[3:]} == {-10}
        assert (priority(run.supervisor_pid), priority(run.pid)) == (10, 19)

        opened_at = stranger.open(system.devices[0])

        await system.until(lambda: system.told_to_leave(run.run) is not None)
        told_at = system.told_to_leave(run.run)
        assert told_at
        assert 0 < told_at - opened_at < 1_500_000_000
        await system.until(lambda: any(gpu.state == "busy" for gpu in [system.gpu(0)] if gpu))
        await system.until(
            lambda: any(
                event["run"] == run.run and event["state"] == "evicted"
                for event in recorded(common_path, "run")
            )
        )
        await system.until(
            lambda: any(event["state"] == "busy" for event in recorded(common_path, "gpu"))
        )
        page = ""
        async with asyncio.timeout(10):
            while f"(pid {stranger.process.pid}" not in page:
                page = await asyncio.to_thread(on_the_page, port)
                await asyncio.sleep(0.1)
        still = system.run_on(1)
        assert still
        assert still.run == other.run, "the other GPU's run is left alone"
