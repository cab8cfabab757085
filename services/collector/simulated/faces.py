"""How the collector sees a simulated node: as driver, process table, terminals and kernel.

They only look; what happens is said by a script or a test, in `simulated`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from gleaner.bus.messages import Disk, GpuReading, HostReading, ProcessReading
from services.collector.interface import (
    DriverEvent,
    DriverProcess,
    GpuSweep,
    Hardware,
    Notice,
    NoticedBy,
    Process,
    SourceName,
    Sweep,
    Terminal,
)
from services.collector.simulated.world import (
    MEMORY_BYTES,
    POWER_LIMIT_WATTS,
    SimulatedGpu,
    SimulatedProcess,
    World,
    user_id_of,
)

IDLE_WATTS = 70.0


class SimulatedSource:
    """The driver."""

    name: SourceName = "simulated"

    def __init__(self, world: World, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._world = world
        self._begin = begin
        self._end = end

    async def hardware(self) -> Hardware:
        """See `Source.hardware`; from now on the script goes on by itself."""
        self._begin()
        return Hardware(
            gpus=tuple(gpu.inventory for gpu in self._world.gpus),
            driver_version="simulated",
            problem=self._world.driver_problem,
            limitations=("this node is simulated: its GPUs, processes and people do not exist",),
            devices={gpu.inventory.gpu: gpu.device for gpu in self._world.gpus},
        )

    async def sweep(self) -> Sweep:
        """See `Source.sweep`."""
        if self._world.driver_problem is not None:
            return Sweep(gpus=(), problem=self._world.driver_problem)
        return Sweep(gpus=tuple(map(self._gpu, self._world.gpus)), session=1)

    async def host(self) -> HostReading:
        """See `Source.host`."""
        working = sum(bool(one.gpus) for one in self._world.processes.values())
        return HostReading(
            cpu_percent=min(100.0, 3.0 + 6.0 * working),
            cpu_count=64,
            load_1_minute=0.5 + 4.0 * working,
            load_5_minutes=0.5 + 4.0 * working,
            load_15_minutes=0.5 + 4.0 * working,
            memory_total_bytes=512 * 2**30,
            memory_used_bytes=(20 + 30 * min(working, 16)) * 2**30,
            network_received_bytes_per_second=2e4 + 2e6 * working,
            network_sent_bytes_per_second=1e4 + 1e5 * working,
            uptime_seconds=86_400.0,
            disks=(Disk(mount="/", total_bytes=2 * 10**12, used_bytes=6 * 10**11),),
        )

    async def close(self) -> None:
        """See `Source.close`."""
        self._end()

    def _gpu(self, gpu: SimulatedGpu) -> GpuSweep:
        name, index = gpu.inventory.gpu, gpu.inventory.index
        if gpu.lost is not None:
            lost = GpuReading(gpu=name, index=index, problems={"all": gpu.lost})
            return GpuSweep(gpu=name, processes=None, reading=lost, lost=gpu.lost)
        here = self._world.on(index)
        xids, gpu.xids = gpu.xids, []
        return GpuSweep(
            gpu=name,
            processes=tuple(
                DriverProcess(
                    pid=one.process.pid, kinds=one.kinds, memory_used_bytes=one.memory_used_bytes
                )
                for one in here
                if one.kinds
            ),
            reading=self._reading(gpu, here),
            events=tuple(DriverEvent(xid=xid, at=self._world.clock()) for xid in xids),
        )

    def _reading(self, gpu: SimulatedGpu, here: tuple[SimulatedProcess, ...]) -> GpuReading:
        now = self._world.clock()
        load = min(1.0, sum(one.utilization_percent for one in here) / 100)
        used = sum(one.memory_used_bytes for one in here) + gpu.unattributed_memory_bytes
        watts = IDLE_WATTS + load * (POWER_LIMIT_WATTS - IDLE_WATTS) * 0.9
        passed = (now - gpu.asked_at).total_seconds() if gpu.asked_at else 0.0
        gpu.asked_at, gpu.energy_joules = now, gpu.energy_joules + watts * max(0.0, passed)
        return GpuReading(
            gpu=gpu.inventory.gpu,
            index=gpu.inventory.index,
            utilization_percent=round(100 * load),
            memory_utilization_percent=round(60 * load),
            memory_used_bytes=min(used, MEMORY_BYTES),
            memory_total_bytes=MEMORY_BYTES,
            temperature_celsius=round(31 + 40 * load),
            power_watts=watts,
            power_limit_watts=POWER_LIMIT_WATTS,
            sm_clock_mhz=1980.0 if load else 345.0,
            memory_clock_mhz=2619.0,
            performance_state=0 if load else 8,
            energy_joules=gpu.energy_joules,
            encoder_percent=0,
            decoder_percent=0,
            throttle_reasons=(),
            pcie_generation=5 if load else 1,
            pcie_generation_max=5,
            pcie_width=16,
            pcie_width_max=16,
            ecc_corrected_errors=0,
            ecc_uncorrected_errors=0,
            remapped_rows_correctable=0,
            remapped_rows_uncorrectable=0,
            remapping_pending=False,
            remapping_failed=False,
            recovery_action="none",
            processes=tuple(
                ProcessReading(
                    pid=one.process.pid,
                    memory_used_bytes=one.memory_used_bytes,
                    utilization_percent=one.utilization_percent,
                )
                for one in here
                if one.kinds
            ),
        )


class SimulatedProcesses:
    """The process table."""

    sees_others = True
    is_new = False

    def __init__(self, world: World) -> None:
        self._world = world

    def identify(self, pid: int) -> Process | None:
        """See `Processes.identify`."""
        found = self._world.processes.get(pid)
        return None if found is None else found.process

    def holds(self, pid: int) -> frozenset[str]:
        """See `Processes.holds`."""
        found = self._world.processes.get(pid)
        gpus = () if found is None else found.gpus
        return frozenset(self._world.gpus[index].inventory.gpu for index in gpus)

    def holders(self) -> dict[str, frozenset[int]]:
        """See `Processes.holders`."""
        return {
            gpu.inventory.gpu: frozenset(
                one.process.pid for one in self._world.on(gpu.inventory.index)
            )
            for gpu in self._world.gpus
        }

    def scan(
        self,
        budget_seconds: float,  # noqa: ARG002
        is_enough: Callable[[int, frozenset[str]], bool] | None = None,  # noqa: ARG002
        *,
        hurry: bool = False,  # noqa: ARG002
    ) -> bool:
        """See `Processes.scan`; everything is known here."""
        return True


class SimulatedTerminals:
    """The terminals."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def look(self) -> tuple[Terminal, ...]:
        """See `Terminals.look`."""
        now = self._world.clock()
        return tuple(
            Terminal(
                where=person.where,
                user_id=user_id_of(person.user),
                user=person.user,
                idle_seconds=max(0.0, (now - person.typed_at).total_seconds()),
                path=person.path,
            )
            for _, person in sorted(self._world.people.items())
        )

    def problems(self) -> tuple[str, ...]:
        """See `Terminals.problems`."""
        return ()

    async def close(self) -> None:
        """See `Terminals.close`."""


class SimulatedNotices:
    """The kernel."""

    by: NoticedBy = "script"
    reads_by: NoticedBy = "script"

    def __init__(self, node: str) -> None:
        self._root = Path("/simulated", node)
        self._handlers: dict[Path, Callable[[Notice], None]] = {}
        self._terminals: Path | None = None

    def watch_opens(self, path: Path, handler: Callable[[Notice], None]) -> bool:
        """See `Notices.watch_opens`."""
        return self._watch(path, handler)

    def watch_reads(self, path: Path, handler: Callable[[Notice], None]) -> bool:
        """See `Notices.watch_reads`."""
        return self._watch(path, handler)

    def watch_made(self, directory: Path, handler: Callable[[Notice], None]) -> bool:
        """See `Notices.watch_made`; wherever somebody expects terminals, they appear."""
        self._terminals = directory
        self._handlers[directory] = handler
        return True

    def unwatch(self, path: Path) -> None:
        """See `Notices.unwatch`."""
        self._handlers.pop(path, None)

    def close(self) -> None:
        """See `Notices.close`."""
        self._handlers.clear()

    def tell(self, path: Path, pid: int | None) -> None:
        """Call who wants to know that somebody opened a device or typed at a terminal."""
        handler = self._handlers.get(path)
        if handler is not None:
            now = time.monotonic_ns()
            handler(Notice(path=path, pid=pid, noticed_ns=now, by=self.by))

    def tell_of_a_terminal(self) -> None:
        """Call who wants to know that somebody has logged in."""
        if self._terminals is not None:
            self.tell(self._terminals, None)

    def _watch(self, path: Path, handler: Callable[[Notice], None]) -> bool:
        if not path.is_relative_to(self._root):
            return False
        self._handlers[path] = handler
        return True
