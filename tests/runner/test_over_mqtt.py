"""The runner as a process of its own, with everything it knows coming over a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gleaner.bus.connection import Connection
from gleaner.bus.interface import Delivery
from gleaner.bus.messages import Beat, Catalogue, GpuCondition, Grant, Run, RunnerState
from gleaner.bus.mqtt import MqttBus
from gleaner.runtime import Misconfigured
from gleaner.settings import BusSettings, GpuSettings, NodeSettings
from services.runner.service import serve
from services.runner.settings import RunnerSettings
from tests.builders import until
from tests.mosquitto import Mosquitto
from tests.runner.rig import (
    NODE,
    SIGNER,
    gpu_state,
    inventory,
    is_alive,
    people,
    signed_beat,
    signed_wish,
)

pytestmark = [pytest.mark.real, pytest.mark.broker]

CONFIGURATION = """
[bus]
url = "{url}"
[node]
id = "n1"
data_directory = "{directory}"
scheduler_keys = ["{key}"]
[[workload]]
name = "fold"
command = "sleep 1000"
user = "root"
[[workload]]
name = "broken"
command = "sleep 1000"
user = "nobdy"
"""


class Fleet:
    """The rest of the fleet: what it hears, and what it says as collector and scheduler."""

    def __init__(self, bus: MqttBus) -> None:
        self.bus = bus
        self.run: Run | None = None
        self.state: RunnerState | None = None
        self.catalogue: Catalogue | None = None
        bus.subscribe(Run, self._hear)
        bus.subscribe(RunnerState, self._hear)
        bus.subscribe(Catalogue, self._hear)

    def _hear(self, delivery: Delivery) -> None:
        match delivery.message:
            case Run() as run:
                self.run = run
            case RunnerState() as state:
                self.state = state
            case Catalogue() as found:
                self.catalogue = found

    async def beat_for_ever(self) -> None:
        for number in range(1, 100_000):
            now = datetime.now(UTC)
            self.bus.publish(Beat(node=NODE, sequence=number, check_seconds=0, at=now))
            self.bus.publish(signed_beat(number))
            await asyncio.sleep(0.1)

    async def launch(self) -> int:
        """Wish for a run; return its pid when it runs."""
        await until(lambda: self.catalogue is not None)
        assert self.catalogue
        grant = Grant(
            run="r1",
            entry="fold",
            digest=self.catalogue.entries[0].digest,
            gpus=("GPU-0",),
            granted_at=datetime.now(UTC),
            reason="idle for 60 s",
        )
        self.bus.publish(inventory())
        self.bus.publish(people())
        self.bus.publish(gpu_state())
        self.bus.publish(signed_wish(grant, generation=1))
        await until(lambda: bool(self.run and self.run.state == "running"))
        assert self.run
        assert self.run.pid
        return self.run.pid


@pytest.fixture
async def fleet(mosquitto: Mosquitto) -> AsyncIterator[Fleet]:
    mosquitto.forget()
    bus = MqttBus(Connection(url=mosquitto.url), "test", "1")
    found = Fleet(bus)
    tasks = [asyncio.create_task(bus.run()), asyncio.create_task(found.beat_for_ever())]
    yield found
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@contextlib.asynccontextmanager
async def runner(directory: Path, url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start `python -m services.runner` from a file that only its owner may write."""
    directory.chmod(0o755)
    file = directory / "gleaner.toml"
    file.write_text(CONFIGURATION.format(url=url, directory=directory / "data", key=SIGNER.public))
    file.chmod(0o600)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.runner", "--config", str(file)
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def test_a_runner_apart_launches_leaves_and_says_both(
    tmp_path: Path, mosquitto: Mosquitto, fleet: Fleet
) -> None:
    async with runner(tmp_path, mosquitto.url):
        pid = await fleet.launch()
        fleet.bus.publish(gpu_state("GPU-0", GpuCondition.BUSY, "user1 computes"))
        await until(lambda: bool(fleet.run and fleet.run.state.is_final))

        assert fleet.run
        assert (fleet.run.state, is_alive(pid)) == ("evicted", False)


async def test_term_ends_the_runs_and_then_the_service(
    tmp_path: Path, mosquitto: Mosquitto, fleet: Fleet
) -> None:
    async with runner(tmp_path, mosquitto.url) as process:
        pid = await fleet.launch()
        process.terminate()

        assert await process.wait() == 0
        assert not is_alive(pid)
        await until(lambda: bool(fleet.run and fleet.run.state == "cancelled"))


async def test_a_broker_that_dies_makes_a_runner_apart_leave(
    tmp_path: Path, mosquitto: Mosquitto, fleet: Fleet
) -> None:
    async with runner(tmp_path, mosquitto.url):
        pid = await fleet.launch()
        mosquitto.kill()
        await until(lambda: not is_alive(pid), 8)
        mosquitto.start()
        await until(lambda: bool(fleet.run and fleet.run.state == "evicted"), 20)

        assert fleet.run
        assert fleet.run.cause
        assert fleet.run.cause.kind == "not_watched"


async def test_a_broken_entry_is_said_and_the_others_go_on(
    tmp_path: Path, mosquitto: Mosquitto, fleet: Fleet
) -> None:
    async with runner(tmp_path, mosquitto.url):
        await until(lambda: fleet.catalogue is not None)
        assert fleet.catalogue
        problems = {entry.name: entry.problems for entry in fleet.catalogue.entries}

        assert problems == {"fold": (), "broken": ("user nobdy does not exist",)}


async def test_a_runner_that_was_killed_is_itself_again(
    tmp_path: Path, mosquitto: Mosquitto, fleet: Fleet
) -> None:
    async with runner(tmp_path, mosquitto.url) as process:
        pid = await fleet.launch()
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
    fleet.run = None
    async with runner(tmp_path, mosquitto.url):
        await until(lambda: bool(fleet.run and fleet.run.state == "running"))
        await until(lambda: bool(fleet.state and fleet.state.watched))

        assert fleet.run
        assert (fleet.run.pid, is_alive(pid)) == (pid, True)


async def test_of_two_runners_with_one_name_the_second_gives_way(
    tmp_path: Path, mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gleaner.namesake")
    mosquitto.forget()
    ours, theirs = (
        RunnerSettings(
            bus=BusSettings(url=mosquitto.url),
            node=NodeSettings(
                id=NODE, data_directory=tmp_path / name, gpu=GpuSettings(source="simulated")
            ),
        )
        for name in ("first", "second")
    )
    reader = MqttBus(Connection(url=mosquitto.url), "test", "reader", announces=False)
    fleet = Fleet(reader)
    tasks = [asyncio.create_task(task) for task in (reader.run(), serve(ours))]
    await until(lambda: fleet.state is not None)
    assert fleet.state
    began = fleet.state.started_at

    with pytest.raises(ExceptionGroup) as error:
        await asyncio.wait_for(serve(theirs), 10)

    why = f"node.id {NODE}: another node of this name is at work"
    assert error.group_contains(Misconfigured, match=why)
    assert f"another node calls itself {NODE} too" in caplog.text
    await until(lambda: f"the other node called {NODE} is silent" in caplog.text)
    await until(lambda: fleet.state is not None and fleet.state.started_at == began)
    for task in tasks:
        task.cancel()
        await asyncio.wait([task])
