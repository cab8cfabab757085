"""A data directory without room: one clear line, and when there is room again, work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.disks import SmallDisk, small_disk
from tests.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]


@pytest.fixture
def disk(common_path: Path) -> Iterator[SmallDisk]:
    with small_disk(common_path / "data", "4m") as path:
        yield SmallDisk(path)


async def test_work_begins_once_there_is_room(common_path: Path, disk: SmallDisk) -> None:
    system = System(common_path, services=("scheduler", "recorder"), keeps_logs=True)
    (common_path / "data" / "keys" / "scheduler.key").unlink()
    disk.fill()
    async with system:
        for name in ("scheduler", "recorder"):
            assert await ended(system, name) == 1
            (line,) = (one for one in system.log(name).splitlines() if "ERROR" in one)
            assert str(disk.path) in line
        await system.until(lambda: "nothing can be started" in system.log("node"))

        disk.empty()
        system.start("scheduler")
        system.start("recorder")
        await system.until(lambda: "scheduler_keys" in system.log("scheduler"))
        assert (common_path / "data" / "keys" / "scheduler.key").stat().st_size == 32
        await system.until(lambda: "can be written again" in system.log("node"))
    for name in system.names:
        assert "Traceback" not in system.log(name), system.log(name)


async def test_who_runs_already_can_leave_a_full_disk(common_path: Path, disk: SmallDisk) -> None:
    system = System(common_path, services=("scheduler", "recorder"), keeps_logs=True)
    async with system:
        await system.until(lambda: len(system.runs()) == 2)
        disk.fill()
        runs = [run.run for run in system.runs()]

        (common_path / "pause").touch()
        (common_path / "data" / "pause" / "pause").symlink_to("/nowhere")
        await system.until(lambda: all(system.told_to_leave(run) for run in runs))
        await system.until(lambda: system.runs() == [])

        disk.empty()
        (common_path / "data" / "pause" / "pause").unlink()
        await system.until(lambda: len(system.runs()) == 2, 30)
    for name in system.names:
        assert "Traceback" not in system.log(name), system.log(name)


async def ended(system: System, name: str) -> int | None:
    """Wait for a service to end by itself; return its exit status."""
    await system.until(lambda: system.processes[name].poll() is not None)
    return system.processes[name].poll()
