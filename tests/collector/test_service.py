"""The collector as a process of its own, beside a real broker."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gleaner.bus.connection import Connection
from gleaner.bus.messages import Beat, Event, GpuState, Run, RunnerState, RunState
from gleaner.bus.mqtt import MqttBus
from services.collector.processes.procfs import ProcfsProcesses
from tests.builders import NOW, until
from tests.mosquitto import Mosquitto
from tests.nvml_stand_in import MIB, StandIn

pytestmark = [pytest.mark.real, pytest.mark.broker]

SETTINGS = """
[bus]
url = "{url}"
[node]
id = "n1"
data_directory = "{folder}/data"
[node.gpu]
source = "nvml"
check_seconds = 0.2
device_directory = "{folder}"
[node.people]
enabled = false
[[workload]]
name = "fold"
command = "./fold"
"""


@pytest.fixture
def collector(
    mosquitto: Mosquitto, nvml: StandIn, tmp_path: Path
) -> Iterator[subprocess.Popen[bytes]]:
    mosquitto.forget()
    file = tmp_path / "gleaner.toml"
    file.write_text(SETTINGS.format(url=mosquitto.url, folder=tmp_path))
    process = subprocess.Popen([sys.executable, "-m", "services.collector", "--config", str(file)])
    yield process
    process.kill()
    process.wait()


def child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def is_gone(pid: int) -> bool:
    return ProcfsProcesses().identify(pid) is None


async def test_it_says_facts_and_events_and_hears_of_runs_before_it_judges(
    mosquitto: Mosquitto, collector: subprocess.Popen[bytes], nvml: StandIn
) -> None:
    runner, states, events = MqttBus(Connection(url=mosquitto.url), "t", "t"), [], []
    runner.subscribe(GpuState, lambda delivery: states.append(delivery.message))
    runner.subscribe(Event, lambda delivery: events.append(delivery.message))
    worker = subprocess.Popen(["sleep", "600"], start_new_session=True)
    identity = ProcfsProcesses().identify(worker.pid)
    assert identity
    nvml.processes = [(0, "compute", worker.pid, 9 * MIB)]
    nvml.write()
    task = asyncio.create_task(runner.run())
    try:
        await until(lambda: runner.connected)
        runner.publish(
            RunnerState(
                node="n1", paused=False, watched=True, term=1, generation=1, lease="held",
                runs=("r1",), at=NOW,
            )
        )  # fmt: skip
        runner.publish(
            Run(
                node="n1", run="r1", entry="fold", digest="d", gpus=("GPU-0",), reason="", term=1,
                state=RunState.RUNNING, at=NOW, supervisor_pid=worker.pid,
                supervisor_started_ticks=identity.started_ticks,
            )
        )  # fmt: skip
        await until(lambda: len(states) >= 2)
        await until(lambda: {event.kind for event in events} >= {"node_started", "gpu"})
        said = {(state.gpu, state.state.value) for state in states}
        assert said == {("GPU-0", "ours"), ("GPU-1", "idle")}
    finally:
        task.cancel()
        await asyncio.wait([task])
        worker.kill()
        worker.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_nothing_is_left_when_it_ends(
    mosquitto: Mosquitto, collector: subprocess.Popen[bytes], number: signal.Signals
) -> None:
    listener, beats = MqttBus(Connection(url=mosquitto.url), "t", "t"), []
    listener.subscribe(Beat, lambda delivery: beats.append(delivery.message))
    task = asyncio.create_task(listener.run())
    try:
        await until(lambda: bool(beats))
    finally:
        task.cancel()
        await asyncio.wait([task])
    child = child_of(collector.pid)

    os.kill(collector.pid, number)

    assert await asyncio.to_thread(collector.wait, 10) == (0 if number == signal.SIGTERM else -9)
    await until(lambda: is_gone(child), 5)
