"""A simulated node behaves as the driver, the process table, the terminals and the kernel do."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from gleaner.bus.local import NodeBus
from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.message import Writer
from gleaner.bus.messages import Run, RunState
from gleaner.bus.outbox import Outbox
from gleaner.settings import NodeSettings, SimulatedSettings
from services.collector.interface import Notice, Notices, Processes, Source, Terminals
from services.collector.simulated.node import Simulation
from services.collector.simulated.world import MEMORY_BYTES
from tests.builders import NOW, until


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def quiet(gpus: int = 2, clock: Clock | None = None) -> Simulation:
    settings = NodeSettings(id="n1", simulated=SimulatedSettings(gpus=gpus))
    return Simulation(settings, clock or Clock(), quiet=True)


def scripted(path: Path, text: str, speed: float = 1) -> tuple[Simulation, Clock]:
    path.write_text(text)
    clock = Clock()
    settings = SimulatedSettings(gpus=2, script=path, speed=speed)
    return Simulation(NodeSettings(id="n1", simulated=settings), clock), clock


def test_it_has_the_four_faces_that_the_collector_reaches() -> None:
    world = quiet()
    source: Source = world.source
    processes: Processes = world.processes
    terminals: Terminals = world.terminals
    notices: Notices = world.notices

    assert source.name == "simulated"
    assert processes.sees_others
    assert (notices.by, notices.reads_by) == ("script", "script")
    assert terminals.problems() == ()


async def test_its_gpus_have_ids_devices_and_no_reading_that_says_busy() -> None:
    world = quiet()

    hardware, sweep = await world.source.hardware(), await world.source.sweep()

    assert [gpu.index for gpu in hardware.gpus] == [0, 1]
    assert list(hardware.devices) == [gpu.gpu for gpu in sweep.gpus]
    assert [gpu.processes for gpu in sweep.gpus] == [(), ()]
    assert {gpu.reading.utilization_percent for gpu in sweep.gpus} == {0}


async def test_a_process_is_seen_by_driver_and_process_table_until_it_leaves() -> None:
    world = quiet()
    pid = world.process_opens(1, user="user1", command="python train.py", memory_percent=25)

    first, second = (await world.source.sweep()).gpus
    assert first.processes == ()
    assert second.processes
    assert second.processes[0].pid == pid
    assert second.reading.memory_used_bytes == MEMORY_BYTES // 4
    identity = world.processes.identify(pid)
    assert identity
    assert (identity.user, identity.program) == ("user1", "python")
    assert world.processes.holds(pid) == {second.gpu}
    assert world.processes.holders() == {first.gpu: frozenset(), second.gpu: {pid}}

    world.process_leaves(pid)
    assert world.processes.identify(pid) is None
    assert world.processes.holds(pid) == frozenset()
    assert [gpu.processes for gpu in (await world.source.sweep()).gpus] == [(), ()]


async def test_a_process_that_only_opened_the_device_is_not_the_drivers() -> None:
    world = quiet()
    pid = world.process_opens(0, user="user1", kinds=frozenset())

    first, _ = (await world.source.sweep()).gpus

    assert first.processes == ()
    assert world.processes.holders()[first.gpu] == {pid}


async def test_an_open_is_told_with_the_pid_and_an_unwatched_one_is_not() -> None:
    world, heard = quiet(), list[Notice]()
    hardware = await world.source.hardware()
    for path in hardware.devices.values():
        assert world.notices.watch_opens(path, heard.append)
    assert not world.notices.watch_opens(Path("/dev/null"), heard.append)

    pid = world.process_opens(0, user="user1")
    world.notices.unwatch(hardware.devices["GPU-simulated-n1-1"])
    world.process_opens(1, user="user1")

    assert [(notice.path.name, notice.pid, notice.by) for notice in heard] == [
        ("nvidia0", pid, "script")
    ]


async def test_a_person_is_idle_since_the_last_key_and_the_key_is_told() -> None:
    clock, heard = Clock(), list[Notice]()
    world = quiet(clock=clock)
    world.types("user1", "pts/3")
    (terminal,) = await world.terminals.look()
    assert terminal.path
    assert world.notices.watch_reads(terminal.path, heard.append)
    clock.passes(30)
    (terminal,) = await world.terminals.look()
    assert (terminal.user, terminal.where, terminal.idle_seconds) == ("user1", "pts/3", 30)

    world.types("user1", "pts/3")

    assert len(heard) == 1
    world.logs_out("pts/3")
    assert await world.terminals.look() == ()


async def test_a_lost_gpu_and_a_silent_driver_are_no_idle_gpus() -> None:
    world = quiet()
    world.lose(0)
    lost, fine = (await world.source.sweep()).gpus
    assert (lost.processes, lost.lost) == (None, "GPU is lost")
    assert lost.reading.memory_used_bytes is None
    assert fine.lost is None

    world.driver_problem("no answer within 3 s")
    assert await world.source.sweep() == type(await world.source.sweep())(
        gpus=(), problem="no answer within 3 s"
    )
    assert (await world.source.hardware()).problem == "no answer within 3 s"

    world.driver_problem(None)
    world.lose(0, None)
    assert [gpu.lost for gpu in (await world.source.sweep()).gpus] == [None, None]


async def test_memory_that_nobody_owns_is_in_use() -> None:
    world = quiet()
    world.leave_memory(0, 5 * 2**30)

    first, _ = (await world.source.sweep()).gpus

    assert (first.reading.memory_used_bytes, first.processes) == (5 * 2**30, ())


def a_run(state: RunState, **changed: object) -> Run:
    fields: dict[str, object] = {
        "node": "n1",
        "run": "run-1",
        "entry": "fold",
        "digest": "d",
        "gpus": ("GPU-simulated-n1-0",),
        "state": state,
        "reason": "",
        "term": 1,
        "supervisor_pid": 5_000_000,
        "supervisor_started_ticks": 7,
        "cgroup": "/gleaner/run-1",
        "simulated": True,
        "at": NOW,
    }
    return Run.model_validate(fields | changed)


async def test_our_runs_are_among_its_processes_while_they_run() -> None:
    world, heard = quiet(), list[Notice]()
    outbox = Outbox(None)
    roles = frozenset(Writer)
    bus = NodeBus("n1", "boot", MemoryBus(MemoryBroker()), outbox, roles)
    world.attach(bus)
    hardware = await world.source.hardware()
    world.notices.watch_opens(hardware.devices["GPU-simulated-n1-0"], heard.append)

    bus.publish(a_run(RunState.STARTING))
    assert world.processes.identify(5_000_001) is None
    bus.publish(a_run(RunState.RUNNING, pid=5_000_001))

    assert world.processes.holds(5_000_001) == {"GPU-simulated-n1-0"}
    workload, supervisor = map(world.processes.identify, (5_000_001, 5_000_000))
    assert workload
    assert supervisor
    assert workload.cgroup == "/gleaner/run-1"
    assert (workload.parent_pid, supervisor.started_ticks) == (5_000_000, 7)
    # Not before the call that announced the run is over, so that nobody takes it for a stranger.
    assert heard == []
    await until(lambda: [notice.pid for notice in heard] == [5_000_001])

    bus.publish(a_run(RunState.STOPPING, pid=5_000_001))
    assert world.processes.holds(5_000_001) != frozenset()
    bus.publish(a_run(RunState.CLEARING, pid=5_000_001))
    assert world.processes.identify(5_000_001) is None
    assert world.processes.identify(5_000_000) is None


async def test_a_run_whose_fact_is_cleared_is_gone() -> None:
    world = quiet()
    bus = NodeBus("n1", "boot", MemoryBus(MemoryBroker()), Outbox(None), frozenset(Writer))
    world.attach(bus)
    bus.publish(a_run(RunState.RUNNING, pid=5_000_001))

    bus.clear(Run, node="n1", run="run-1")

    assert world.processes.identify(5_000_001) is None


STORY = """
[[visit]]
at = 10
lasts = 60
user = "user1"
types_for = 20
[[work]]
at = 15
lasts = 30
user = "user1"
gpus = [1]
[[fault]]
at = 100
lasts = 10
gpu = 0
lost = "GPU has fallen off the bus"
[[driver]]
at = 200
lasts = 10
problem = "no answer within 3 s"
"""


async def test_a_script_plays(tmp_path: Path) -> None:
    world, clock = scripted(tmp_path / "script.toml", STORY)
    told = []
    for seconds in (9, 16, 40, 71, 105, 111, 205, 211):
        clock.now = NOW + timedelta(seconds=seconds)
        world.advance()
        sweep = await world.source.sweep()
        told.append(
            (
                len(await world.terminals.look()),
                sum(len(gpu.processes or ()) for gpu in sweep.gpus),
                sum(gpu.lost is not None for gpu in sweep.gpus),
                sweep.problem is not None,
            )
        )

    assert told == [
        (0, 0, 0, False),
        (1, 1, 0, False),
        (1, 1, 0, False),
        (0, 0, 0, False),
        (0, 0, 1, False),
        (0, 0, 0, False),
        (0, 0, 0, True),
        (0, 0, 0, False),
    ]


async def test_a_script_plays_faster_but_idle_times_are_those_of_the_clock(tmp_path: Path) -> None:
    world, clock = scripted(tmp_path / "script.toml", STORY, speed=10)
    clock.passes(1)
    world.advance()
    clock.passes(0.2)

    (terminal,) = await world.terminals.look()

    assert terminal.idle_seconds == 0.2


async def test_things_happen_when_they_are_due_and_not_when_somebody_looks(tmp_path: Path) -> None:
    path, heard = tmp_path / "script.toml", list[Notice]()
    path.write_text("[[work]]\nat = 5\nuser = 'user1'\ngpus = [0]")
    settings = SimulatedSettings(gpus=1, script=path, speed=100)
    world = Simulation(NodeSettings(id="n1", simulated=settings))
    hardware = await world.source.hardware()
    world.notices.watch_opens(hardware.devices["GPU-simulated-n1-0"], heard.append)

    await until(lambda: bool(heard))

    await world.source.close()


async def test_the_lively_day_of_every_node_can_be_played_to_its_end() -> None:
    for number in range(20):
        clock = Clock()
        settings = NodeSettings(id=f"n{number}", simulated=SimulatedSettings(gpus=4))
        world = Simulation(settings, clock)
        for _ in range(200):
            clock.passes(60)
            world.advance()
        assert all(gpu.lost is None or "lost" in gpu.lost for gpu in world._world.gpus)
        assert len(world.processes.holders()) == 4
