"""A simulated node: GPUs, processes and people that do not exist, seen by the real pipeline.

A script plays in the node's small world, and tests tell it what happens by the same methods. Our
own runs, which start no process on a simulated node, are put among its processes as they are
announced on the bus.
"""

from __future__ import annotations

import asyncio
import itertools
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from gleaner.bus.interface import Bus, Delivery
from gleaner.bus.messages import GpuInventory, Run, RunState
from gleaner.settings import NodeSettings
from services.collector.interface import Kind, Process
from services.collector.simulated.faces import (
    SimulatedNotices,
    SimulatedProcesses,
    SimulatedSource,
    SimulatedTerminals,
)
from services.collector.simulated.script import (
    DriverFault,
    Fault,
    Moment,
    Player,
    Visit,
    Work,
    a_lively_day,
    read_script,
)
from services.collector.simulated.world import (
    COMPUTES,
    MEMORY_BYTES,
    POWER_LIMIT_WATTS,
    SimulatedGpu,
    SimulatedPerson,
    SimulatedProcess,
    World,
    user_id_of,
)

_HAS_PROCESSES = frozenset({RunState.RUNNING, RunState.STOPPING, RunState.KILLING})


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


class Simulation:
    """A small world and what happens in it."""

    def __init__(
        self,
        settings: NodeSettings,
        clock: Callable[[], datetime] = utc_now,
        *,
        quiet: bool = False,
    ) -> None:
        """Make a node. A quiet one plays no script: what it is told happens, and nothing else.

        A script that cannot be read is a ValueError that names file and key.
        """
        simulated = settings.simulated
        self._node = settings.id
        self._clock = clock
        self._world = World(clock=clock, gpus=_gpus(settings.id, simulated.gpus, simulated.model))
        self.source = SimulatedSource(self._world, self._keep_time, self._stop)
        self.processes = SimulatedProcesses(self._world)
        self.terminals = SimulatedTerminals(self._world)
        self.notices = SimulatedNotices(settings.id)
        self._pids = itertools.count(10_000 + zlib.crc32(self._node.encode()) % 1_000_000)
        self._runs: dict[str, tuple[int, ...]] = {}
        self._working: dict[Work, list[int]] = {}
        self._began = clock()
        self._speed = simulated.speed
        self._timer: asyncio.TimerHandle | None = None
        self._player: Player | None = None
        if not quiet:
            script = (
                a_lively_day(self._node, simulated.gpus)
                if simulated.script is None
                else read_script(simulated.script, simulated.gpus)
            )
            self._player = Player(script, self._node)

    def process_opens(
        self,
        *gpus: int,
        user: str,
        command: str = "python train.py",
        kinds: frozenset[Kind] = COMPUTES,
        utilization_percent: float = 95,
        memory_percent: float = 50,
    ) -> int:
        """Start somebody's process on GPUs, by index; return its pid."""
        user_id, pid = user_id_of(user), next(self._pids)
        self._world.processes[pid] = SimulatedProcess(
            process=Process(
                pid=pid,
                started_ticks=pid,
                started_at=self._clock(),
                parent_pid=1,
                user_id=user_id,
                user=user,
                program=command.split()[0],
                command=command,
                cgroup=f"/user.slice/user-{user_id}.slice/session-{pid}.scope",
                token=None,
            ),
            gpus=gpus,
            kinds=kinds,
            utilization_percent=utilization_percent,
            memory_used_bytes=int(MEMORY_BYTES * memory_percent / 100),
        )
        self._tell_opens(pid)
        return pid

    def process_leaves(self, pid: int) -> None:
        """End a process."""
        self._world.processes.pop(pid, None)

    def types(self, user: str, where: str = "pts/0") -> None:
        """Have somebody press a key at a terminal, logging in first if they are not there."""
        person = self._world.people.get(where)
        if person is None or person.user != user:
            path = Path("/simulated", self._node, where)
            person = SimulatedPerson(user=user, where=where, path=path, typed_at=self._clock())
            self._world.people[where] = person
            self.notices.tell_of_a_terminal()
        person.typed_at = self._clock()
        self.notices.tell(person.path, None)

    def logs_out(self, where: str = "pts/0") -> None:
        """Have whoever is at a terminal leave it."""
        self._world.people.pop(where, None)

    def lose(self, gpu: int, why: str | None = "GPU is lost") -> None:
        """Have the driver say that a GPU is gone; with None, that it is there again."""
        self._world.gpus[gpu].lost = why

    def report(self, gpu: int, xid: int) -> None:
        """Have the driver report an error of a GPU, by NVIDIA's number."""
        self._world.gpus[gpu].xids.append(xid)

    def leave_memory(self, gpu: int, used_bytes: int) -> None:
        """Have memory of a GPU in use by nobody who can be named."""
        self._world.gpus[gpu].unattributed_memory_bytes = used_bytes

    def driver_problem(self, problem: str | None) -> None:
        """Have the driver not answer, and why; with None, answer again."""
        self._world.driver_problem = problem

    def attach(self, bus: Bus) -> None:
        """Put this node's runs among its processes from now on, as their facts say."""
        bus.subscribe(Run, self._on_run, node=self._node)

    def advance(self) -> None:
        """Let everything happen that is due by the clock."""
        if self._player is None:
            return
        for moment in self._player.due(self._elapsed()):
            self._play(moment)

    def _on_run(self, delivery: Delivery) -> None:
        fact = delivery.message
        if not isinstance(fact, Run) or fact.state not in _HAS_PROCESSES:
            for pid in self._runs.pop(delivery.levels["run"], ()):
                self.process_leaves(pid)
        elif fact.run not in self._runs and fact.pid is not None:
            self._start_run(fact, fact.pid)

    def _start_run(self, fact: Run, pid: int) -> None:
        """Add what the real runner would have started: a supervisor and the workload below it."""
        user = fact.user or "nobody"
        workload = Process(
            pid=pid,
            started_ticks=pid,
            started_at=fact.started_at or self._clock(),
            parent_pid=fact.supervisor_pid or 1,
            user_id=user_id_of(user),
            user=user,
            program=fact.entry,
            command=fact.entry,
            cgroup=fact.cgroup,
            token=None,
        )
        processes = self._world.processes
        self._runs[fact.run] = (pid,)
        if fact.supervisor_pid is not None:
            self._runs[fact.run] = (pid, fact.supervisor_pid)
            supervisor = replace(
                workload,
                pid=fact.supervisor_pid,
                started_ticks=fact.supervisor_started_ticks or 0,
                parent_pid=1,
            )
            processes[fact.supervisor_pid] = SimulatedProcess(process=supervisor)
        indices = {gpu.inventory.gpu: gpu.inventory.index for gpu in self._world.gpus}
        processes[pid] = SimulatedProcess(
            process=workload,
            gpus=tuple(indices[gpu] for gpu in fact.gpus if gpu in indices),
            utilization_percent=99,
            memory_used_bytes=MEMORY_BYTES // 4,
        )
        # Later, as the kernel does: we are inside the call that told everybody of the run.
        asyncio.get_running_loop().call_soon(self._tell_opens, pid)

    def _tell_opens(self, pid: int) -> None:
        process = self._world.processes.get(pid)
        for index in process.gpus if process is not None else ():
            self.notices.tell(self._world.gpus[index].device, pid)

    def _keep_time(self) -> None:
        """Let things happen when they are due, whether or not somebody looks."""
        if self._timer is None:
            self._tick()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._player = None, None

    def _tick(self) -> None:
        self.advance()
        next_at = self._player.next_at if self._player is not None else None
        if next_at is not None:
            delay = max(0.001, (next_at - self._elapsed()) / self._speed)
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _elapsed(self) -> float:
        return (self._clock() - self._began).total_seconds() * self._speed

    def _play(self, moment: Moment) -> None:
        match moment.entry, moment.phase:
            case Visit(user=user, where=where), "begin" | "again":
                self.types(user, where)
            case Visit(where=where), _:
                self.logs_out(where)
            case Work() as work, "begin":
                pid = self.process_opens(
                    *work.gpus,
                    user=work.user,
                    command=work.command,
                    kinds=work.kinds,
                    utilization_percent=work.utilization_percent,
                    memory_percent=work.memory_percent,
                )
                self._working.setdefault(work, []).append(pid)
            case Work() as work, _:
                self.process_leaves(self._working[work].pop())
            case Fault() as fault, phase:
                self._fail(fault, begins=phase == "begin")
            case DriverFault(problem=problem), phase:
                self.driver_problem(problem if phase == "begin" else None)

    def _fail(self, fault: Fault, *, begins: bool) -> None:
        if fault.lost is not None:
            self.lose(fault.gpu, fault.lost if begins else None)
        if fault.xid is not None and begins:
            self.report(fault.gpu, fault.xid)
        used = int(MEMORY_BYTES * fault.unattributed_memory_percent / 100)
        self.leave_memory(fault.gpu, used if begins else 0)


def _gpus(node: str, count: int, model: str) -> tuple[SimulatedGpu, ...]:
    return tuple(
        SimulatedGpu(
            inventory=GpuInventory(
                gpu=f"GPU-simulated-{node}-{index}",
                index=index,
                minor=index,
                name=model,
                memory_total_bytes=MEMORY_BYTES,
                power_limit_watts=POWER_LIMIT_WATTS,
                pci_bus_id=f"00000000:{index + 1:02X}:00.0",
            ),
            device=Path("/simulated", node, f"nvidia{index}"),
        )
        for index in range(count)
    )
