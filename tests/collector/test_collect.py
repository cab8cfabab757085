"""The whole collector on this machine: real processes of others, real devices, the real kernel."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gleaner.bus.local import NodeBus
from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.message import Message, Writer
from gleaner.bus.messages import (
    Beat,
    Event,
    GpuState,
    Inventory,
    People,
    Run,
    RunnerState,
    RunState,
    Telemetry,
)
from gleaner.bus.outbox import Outbox
from gleaner.runtime import Fatal
from gleaner.settings import GpuSettings, NodeSettings, PeopleSettings, SimulatedSettings
from services.collector.device_files import DeviceFilesSource
from services.collector.gpus import GpuWatch
from services.collector.interface import Notices
from services.collector.kernel import opens
from services.collector.kernel.inotify import InotifyNotices
from services.collector.kernel.notices import FirstThatCan
from services.collector.nvml.capture import capture
from services.collector.processes.procfs import ProcfsProcesses
from services.collector.service import collect
from services.collector.settings import CollectorSettings
from tests.builders import NOW, until
from tests.nvml_stand_in import MIB, Account, StandIn
from tests.python import python_for_others
from tests.system import Stranger

pytestmark = pytest.mark.real

NOBODY = 65534
HOLD = "import sys,time; f = open(sys.argv[1]); print(flush=True); time.sleep(600)"
HOLD_ALL = """
import os, sys, time
held = [open(os.path.join(sys.argv[1], name)) for name in sorted(os.listdir(sys.argv[1]))]
time.sleep(600)
"""
STORM = """
import os, sys, time
for number in range(10**6):
    os.close(os.open(sys.argv[1], os.O_RDONLY))
    if number == 1000:
        print(flush=True)
    time.sleep(0.001)
"""
"""Nearly a thousand opens a second."""


class Machine:
    """A collector on a bus, over device nodes in a folder; and strangers."""

    def __init__(self, devices: Path) -> None:
        self.devices = devices
        self.outbox = Outbox(None)
        self.bus = NodeBus(
            "n1", "boot", MemoryBus(MemoryBroker()), self.outbox,
            frozenset({Writer.COLLECTOR, Writer.RUNNER}),
        )  # fmt: skip
        self.said: list[Message] = []
        self.last: dict[str, GpuState] = {}
        self.strangers: list[subprocess.Popen[bytes]] = []
        self._task: asyncio.Task[None] | None = None
        for kind in (Beat, GpuState, Inventory, People, Telemetry):
            self.bus.subscribe(kind, lambda delivery: self._hear(delivery.message))
        self.bus.publish(
            RunnerState(
                node="n1", paused=False, watched=False, term=None, generation=None, lease="none",
                at=NOW,
            )
        )  # fmt: skip

    def _hear(self, message: Message | None) -> None:
        if message is not None:
            self.said.append(message)
        if isinstance(message, GpuState):
            self.last[message.gpu] = message

    @property
    def beats(self) -> int:
        return sum(isinstance(one, Beat) for one in self.said)

    async def collect(self, gpu: GpuSettings, capture: Path | None = None) -> None:
        node = NodeSettings(
            id="n1",
            gpu=gpu,
            people=PeopleSettings(enabled=False),
            simulated=SimulatedSettings(capture=capture),
        )
        await collect(self.bus, CollectorSettings(node=node))

    async def start(self, *, capture: Path | None = None, **gpu: Any) -> None:
        settings = GpuSettings(**({"device_directory": self.devices} | gpu))
        self._task = asyncio.create_task(self.collect(settings, capture))
        await until(lambda: self._task.done() or any(isinstance(one, Beat) for one in self.said))  # type: ignore[union-attr]
        assert not self._task.done(), self._task.exception()

    async def stop(self) -> None:
        for stranger in self.strangers:
            # With everything it has started.
            os.killpg(stranger.pid, signal.SIGKILL)
            stranger.wait()
            assert stranger.stdout
            stranger.stdout.close()
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def make(self, minor: int, number: int = 7) -> Path:
        path = self.devices / f"nvidia{minor}"
        os.mknod(path, 0o666 | 0o020000, os.makedev(1, number))
        return path

    def somebody(self, *words: str | Path) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*map(str, words)],
            stdout=subprocess.PIPE,
            user=NOBODY,
            group=NOBODY,
            start_new_session=True,
        )
        self.strangers.append(process)
        return process

    def hold(self, path: Path) -> int:
        process = self.somebody(python_for_others(), "-c", HOLD, path)
        assert process.stdout
        process.stdout.readline()
        return process.pid


@pytest.fixture
async def machine(common_path: Path) -> AsyncIterator[Machine]:
    machine = Machine(common_path)
    machine.make(0, 7)
    machine.make(1, 8)
    yield machine
    await machine.stop()


async def test_somebody_elses_open_is_said_long_before_the_next_check(machine: Machine) -> None:
    await machine.start(source="device-files", check_seconds=4)

    pid = await asyncio.to_thread(machine.hold, machine.devices / "nvidia0")
    await until(lambda: machine.last["minor-0"].state == "busy", 1)

    state = machine.last["minor-0"]
    assert state.reasons[0].endswith(
        f" has the device open (pid {pid}, {Path(python_for_others()).name})"
    )
    assert state.noticed_by == "fanotify"
    assert state.noticed_ns
    assert 0 < time.monotonic_ns() - state.noticed_ns < 10**9


async def test_a_storm_of_opens_by_an_ignored_program_hides_no_stranger(machine: Machine) -> None:
    program = machine.devices.parent / "nvidia-smi"
    program.write_text(f"#!{python_for_others()}\n{STORM}")
    program.chmod(0o755)
    await machine.start(source="device-files", check_seconds=4)
    storm = machine.somebody(program, machine.devices / "nvidia0")
    assert storm.stdout
    await asyncio.to_thread(storm.stdout.readline)
    assert machine.last["minor-0"].state == "idle"

    pid = await asyncio.to_thread(machine.hold, machine.devices / "nvidia0")
    await until(lambda: machine.last["minor-0"].state == "busy", 2)

    assert [one.pid for one in machine.last["minor-0"].holders if one.ignored is None] == [pid]
    assert machine.last["minor-0"].noticed_by == "fanotify"
    assert sum(isinstance(one, GpuState) for one in machine.said) < 10


async def test_it_is_idle_with_the_check_after_the_device_was_closed(machine: Machine) -> None:
    await machine.start(source="device-files", check_seconds=0.1)
    await asyncio.to_thread(machine.hold, machine.devices / "nvidia0")
    await until(lambda: machine.last["minor-0"].state == "busy", 1)

    machine.strangers[0].kill()

    await until(lambda: machine.last["minor-0"].state == "idle", 2)


async def test_who_held_the_device_before_we_came_is_found(machine: Machine) -> None:
    pid = machine.hold(machine.devices / "nvidia1")
    await machine.start(source="device-files", check_seconds=0.1)

    await until(lambda: machine.last["minor-1"].state == "busy", 10)

    assert machine.last["minor-1"].holders[0].pid == pid


async def test_a_grandchild_of_our_run_is_ours(machine: Machine, common_path: Path) -> None:
    await machine.start(source="device-files", check_seconds=0.1)
    go = common_path / "go"
    device = machine.devices / "nvidia0"
    script = (
        f"while [ ! -e {go} ]; do sleep 0.02; done; (sh -c 'exec 3< {device}; sleep 600' & wait)"
    )
    supervisor = machine.somebody("sh", "-c", script)
    identity = ProcfsProcesses().identify(supervisor.pid)
    assert identity
    machine.bus.publish(
        Run(
            node="n1", run="r1", entry="fold", digest="d", gpus=("minor-0",), reason="", term=1,
            state=RunState.RUNNING, at=NOW, supervisor_pid=supervisor.pid,
            supervisor_started_ticks=identity.started_ticks,
        )
    )  # fmt: skip

    go.touch()
    await until(lambda: machine.last["minor-0"].state == "ours", 10)

    assert {holder.run for holder in machine.last["minor-0"].holders} == {"r1"}
    assert "busy" not in {one.state for one in machine.said if isinstance(one, GpuState)}


async def test_a_device_that_is_added_later_is_watched_too(machine: Machine) -> None:
    await machine.start(source="device-files", check_seconds=0.1)
    path = machine.make(2, 5)
    await until(lambda: "minor-2" in machine.last, 2)
    beats = machine.beats
    await until(lambda: machine.beats > beats)

    await asyncio.to_thread(machine.hold, path)

    await until(lambda: machine.last["minor-2"].state == "busy", 1)
    assert machine.last["minor-2"].noticed_by == "fanotify"


@pytest.mark.parametrize(("way", "by"), [(InotifyNotices, "inotify"), (FirstThatCan, "check")])
async def test_without_a_pid_the_holder_is_searched_for(
    machine: Machine, way: Callable[[], Notices], by: str
) -> None:
    settings = NodeSettings(id="n1", gpu=GpuSettings(device_directory=machine.devices))
    processes, notices = ProcfsProcesses(), way()
    source = DeviceFilesSource(machine.devices, "no NVML")
    watch = GpuWatch(machine.bus, settings, source, processes, notices, on_devices=processes.watch)
    await watch.check()

    pid = await asyncio.to_thread(machine.hold, machine.devices / "nvidia0")
    if by == "check":
        await watch.check()
    await until(lambda: machine.last["minor-0"].state == "busy", 1)

    assert [holder.pid for holder in machine.last["minor-0"].holders] == [pid]
    assert machine.last["minor-0"].noticed_by == (None if by == "check" else by)
    watch.close()
    notices.close()


async def test_the_search_goes_on_where_there_are_more_processes_than_one_look_takes(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opens, "SLICE_SECONDS", 0.0005)
    settings = NodeSettings(id="n1", gpu=GpuSettings(device_directory=machine.devices))
    processes, notices = ProcfsProcesses(), InotifyNotices()
    source = DeviceFilesSource(machine.devices, "no NVML")
    watch = GpuWatch(machine.bus, settings, source, processes, notices, on_devices=processes.watch)
    stranger = Stranger()
    for _ in range(60):
        machine.somebody("sleep", "600")
    await watch.check()

    await asyncio.to_thread(stranger.open, machine.devices / "nvidia0")

    await until(lambda: machine.last["minor-0"].state == "busy", 5)
    assert machine.last["minor-0"].noticed_by == "inotify"
    watch.close()
    notices.close()
    stranger.end()


async def test_without_a_pid_every_device_that_was_opened_is_searched_for(
    machine: Machine,
) -> None:
    settings = NodeSettings(id="n1", gpu=GpuSettings(device_directory=machine.devices))
    processes, notices = ProcfsProcesses(), InotifyNotices()
    source = DeviceFilesSource(machine.devices, "no NVML")
    watch = GpuWatch(machine.bus, settings, source, processes, notices, on_devices=processes.watch)
    await watch.check()

    # As CUDA opens them: all at once.
    machine.somebody(python_for_others(), "-c", HOLD_ALL, machine.devices)

    await until(lambda: all(machine.last[f"minor-{minor}"].state == "busy" for minor in (0, 1)), 2)

    watch.close()
    notices.close()


async def test_driver_and_process_table_together_name_who_computes(
    machine: Machine, nvml: StandIn
) -> None:
    pid = await asyncio.to_thread(machine.hold, machine.devices / "nvidia0")
    nvml.processes = [(0, "compute", pid, 300 * MIB)]
    nvml.gpus[0]["memory_used"] = 304 * MIB
    nvml.write()

    await machine.start(source="auto", check_seconds=0.1)
    await until(lambda: "device_open" in machine.last["GPU-0"].holders[0].kinds, 10)

    holder = machine.last["GPU-0"].holders[0]
    assert machine.last["GPU-0"].state == "busy"
    assert (holder.pid, holder.user, holder.memory_used_bytes) == (pid, "nobody", 300 * MIB)
    assert holder.kinds == ("compute", "device_open")
    inventory = next(one for one in machine.said if isinstance(one, Inventory))
    assert (inventory.source, inventory.notices_opens_by) == ("nvml", "fanotify")


async def test_who_came_and_went_between_two_samples_is_recorded_by_name(
    machine: Machine, nvml: StandIn
) -> None:
    nvml.without_device_files()
    nvml.write()
    await machine.start(source="nvml", check_seconds=0.05, sample_seconds=3600, accounting=True)
    process = machine.somebody("sleep", "600")
    nvml.processes = [(0, "compute", process.pid, 300 * MIB)]
    nvml.write()
    await until(lambda: machine.last["GPU-0"].state == "busy")
    nvml.processes = []
    nvml.accounts = [Account(pid=process.pid, started_at=time.time())]
    nvml.write()

    def recorded() -> list[Event]:
        events = machine.outbox.after({}, 1000, 10_000_000)
        return [one for one in events if one.kind == "short_process"]

    await until(lambda: bool(recorded()), 20)

    (event,) = recorded()
    assert (event.data["user"], event.data["command"]) == ("nobody", "sleep")
    assert (event.data["gpu"], event.data["active_seconds"]) == ("GPU-0", 1.5)


async def test_those_who_ask_the_driver_for_gleaner_do_not_count(
    machine: Machine, nvml: StandIn, tmp_path: Path
) -> None:
    nvml.system["opens"] = str(machine.devices / "nvidia0")
    nvml.write()
    await machine.start(source="nvml", check_seconds=0.05)

    beside = asyncio.create_task(capture(tmp_path / "file", 0.5, GpuSettings(check_seconds=0.1)))
    await until(lambda: bool(machine.last["GPU-0"].holders))
    await beside

    states = [one.state.value for one in machine.said if isinstance(one, GpuState)]
    assert set(states) == {"idle"}
    ignored = {one.ignored for state in machine.said if isinstance(state, GpuState)
               for one in state.holders}  # fmt: skip
    assert ignored == {"program nvml_child.py"}


async def test_a_pid_that_the_driver_lists_and_nobody_knows_makes_it_dirty(
    machine: Machine, nvml: StandIn
) -> None:
    nvml.without_device_files()
    nvml.processes = [(0, "compute", 2**22 + 5, 300 * MIB)]
    nvml.write()

    await machine.start(source="nvml", check_seconds=0.1)

    assert machine.last["GPU-0"].state == "dirty"
    assert machine.last["GPU-1"].state == "idle"


async def test_a_hung_driver_makes_gpus_unknown_and_the_beat_goes_on(
    machine: Machine, nvml: StandIn
) -> None:
    nvml.without_device_files()
    nvml.write()
    await machine.start(source="nvml", check_seconds=0.1, deadline_seconds=0.3)
    nvml.gpus[0]["nvmlDeviceGetTemperature"] = "hang"
    nvml.write()
    await until(lambda: {one.state for one in machine.last.values()} == {"unknown"}, 3)
    beats = machine.beats
    await until(lambda: machine.beats > beats + 3, 3)
    del nvml.gpus[0]["nvmlDeviceGetTemperature"]
    nvml.write()

    await until(lambda: {one.state for one in machine.last.values()} == {"idle"}, 10)

    assert "the driver has not answered since" in next(
        one.reasons[0]
        for one in machine.said
        if isinstance(one, GpuState) and one.state == "unknown"
    )


async def test_a_driver_that_is_loaded_later_is_noticed(
    machine: Machine, nvml: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries = nvml.environment()["LD_LIBRARY_PATH"]
    monkeypatch.delenv("LD_LIBRARY_PATH")
    await machine.start(source="auto", check_seconds=0.1)
    assert set(machine.last) == {"minor-0", "minor-1"}

    monkeypatch.setenv("LD_LIBRARY_PATH", libraries)
    machine.make(2, 9)
    await until(lambda: "GPU-0" in machine.last and machine.last["GPU-0"].state == "idle", 10)
    pid = machine.hold(machine.devices / "nvidia0")

    await until(lambda: machine.last["GPU-0"].state == "busy")
    assert [holder.pid for holder in machine.last["GPU-0"].holders] == [pid]
    assert [one.source for one in machine.said if isinstance(one, Inventory)][-1] == "nvml"


async def test_a_simulated_node_runs_the_same_way(machine: Machine) -> None:
    await machine.start(source="simulated", check_seconds=0.05)

    await until(lambda: machine.beats > 3)

    assert {one.noticed_by for one in machine.last.values()} <= {None, "script"}
    inventory = next(one for one in machine.said if isinstance(one, Inventory))
    assert (inventory.source, len(inventory.gpus)) == ("simulated", 4)


async def test_a_capture_is_replayed_by_a_node(
    machine: Machine, nvml: StandIn, tmp_path: Path
) -> None:
    nvml.processes = [(0, "compute", 4711, 5 * MIB)]
    nvml.write()
    path = tmp_path / "odd.capture"
    await capture(path, 0.2, GpuSettings(check_seconds=0.05))

    await machine.start(source="simulated", check_seconds=0.05, capture=path)

    inventory = next(one for one in machine.said if isinstance(one, Inventory))
    assert (inventory.source, inventory.gpus[0].name) == ("simulated", "NVIDIA Stand-in")
    said = {state.index: (state.state.value, *state.reasons) for state in machine.last.values()}
    assert said == {
        0: ("busy", "somebody computes (pid 4711, recorded)"),
        1: ("idle", "nobody uses it"),
    }


@pytest.mark.parametrize("text", [None, "", "[1]\n", "{", '{"answer": 3}\n'])
async def test_a_file_that_is_no_capture_is_named(
    machine: Machine, tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "odd.capture"
    if text is not None:
        path.write_text(text)

    with pytest.raises(Fatal, match=r"odd\.capture: "):
        await machine.collect(GpuSettings(source="simulated"), path)


async def test_a_script_that_is_not_there_is_named(machine: Machine, tmp_path: Path) -> None:
    node = NodeSettings(
        id="n1",
        gpu=GpuSettings(source="simulated"),
        simulated=SimulatedSettings(script=tmp_path / "day.toml"),
    )

    with pytest.raises(Fatal, match=r"day\.toml"):
        await collect(machine.bus, CollectorSettings(node=node))
