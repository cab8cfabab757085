"""Watch the GPUs of a node: check, decide, publish; who opened a device is found in `opens`."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from gleaner.bus.interface import Delivery
from gleaner.bus.local import NodeBus
from gleaner.bus.messages import (
    Beat,
    EventKind,
    GpuCondition,
    GpuInventory,
    GpuState,
    Holder,
    Run,
    RunState,
)
from gleaner.settings import NodeSettings
from services.collector import busy
from services.collector.busy import Evidence, Past, Verdict
from services.collector.clock import Clocks, read_clocks
from services.collector.containers import ContainerNames, shortened
from services.collector.driver_news import DriverNews
from services.collector.interface import (
    DriverProcess,
    GpuSweep,
    Notice,
    Notices,
    Process,
    Processes,
    Source,
    Sweep,
)
from services.collector.opens import Opens
from services.collector.ours import run_of
from services.collector.reports import Reports, Sight

logger = logging.getLogger(__name__)

SLICE_SECONDS = 0.005
SLICES = 5
"""At most so many slices a check, with other work in between: 2,000 processes within 10 s."""
BLIND_SLICES = 50
"""The same where no notice tells us where to look: a quarter of a check's second."""
FIRST_SECONDS = 0.25
"""The first checks follow each other in steps that grow by this: who starts at the same time as we
do, a page or a scheduler, has missed the first beat."""
URGENT_SECONDS = 0.1
"""How often is checked while a run's GPU is being cleared."""
URGENT_FOR_SECONDS = 10.0
LEAST_SECONDS = 0.02
MEMORY_STEP_BYTES = 64 * busy.MIB
"""A holder's memory that changed by less (and by less than a twentieth) is not said anew."""


@dataclass(kw_only=True)
class Watched:
    """One GPU, what was last said about it and what is remembered."""

    inventory: GpuInventory
    state: GpuState | None = None
    past: Past = field(default=Past())


class GpuWatch:
    """Checks, hears, decides and publishes; one `check` at a time."""

    def __init__(
        self,
        bus: NodeBus,
        settings: NodeSettings,
        source: Source,
        processes: Processes,
        notices: Notices,
        *,
        runs: tuple[Run, ...] = (),
        people: Sight | None = None,
        limitations: tuple[str, ...] = (),
        on_devices: Callable[[dict[str, Path]], None] | None = None,
        own_pids: Callable[[], Collection[int]] = tuple,
        clocks: Callable[[], Clocks] = read_clocks,
    ) -> None:
        """Store what is reached; `on_devices` hears which device files there are.

        `own_pids` names Gleaner's own processes that hold devices open in order to watch them.
        """
        self._bus = bus
        self._settings = settings
        self._policy = busy.policy(settings.gpu)
        self._source = source
        self._processes = processes
        self._notices = notices
        self._on_devices = on_devices
        self._own_pids = own_pids
        self._reports = Reports(bus, settings, source, notices, people, limitations)
        self._news = DriverNews(bus)
        self._containers = ContainerNames()
        self._gpus: dict[str, Watched] = {}
        self._devices: dict[str, Path] = {}
        self._marks: dict[Path, tuple[int, int, int] | None] = {}
        self._unheard: set[Path] = set()
        self._runs = {run.run: run for run in runs}
        self._sequence = 0
        self._clocks = clocks
        self._began = clocks()
        self._wanted = asyncio.Event()
        self._urgent_until = 0.0
        self._opens = Opens(
            processes,
            devices=lambda: self._devices,
            is_known=lambda path, pid: all(_is_taken(gpu, pid) for gpu in self._at(path)),
            found=self._take_in,
            own_pids=own_pids,
        )
        bus.subscribe(Run, self._on_run, node=bus.node)

    async def check(self) -> None:
        """Ask the driver and the process table, say what changed, then beat."""
        started = time.monotonic()
        await self._look_at_hardware()
        sweep = self._news.take_in(await self._source.sweep(), started)
        await self._scan()
        swept = {one.gpu: one for one in sweep.gpus}
        holders = self._processes.holders()
        readings = []
        for watched in self._gpus.values():
            found = self._evidence(watched.inventory, sweep, swept, holders)
            verdict, watched.past = busy.judge(found, watched.past, self._policy, started)
            self._say(watched, verdict)
            readings.append((watched, found))
        self._reports.problem(sweep.problem)
        seen = [(watched.inventory, watched.state, found) for watched, found in readings]
        if await self._reports.readings(seen):
            self._news.sampled(state for _, state, _ in seen)
        self._beat(time.monotonic() - started)

    async def wait(self, started: float) -> None:
        """Return when the next check is due: by the clock, or because something asks for it."""
        every = min(self._settings.gpu.check_seconds, FIRST_SECONDS * self._sequence)
        if time.monotonic() < self._urgent_until:
            every = min(every, URGENT_SECONDS)
        await asyncio.sleep(max(0.0, started + LEAST_SECONDS - time.monotonic()))
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, started + every - time.monotonic())):
                await self._wanted.wait()
        self._wanted.clear()

    def close(self) -> None:
        """Forget what was to be looked at, and keep the samples of the unfinished minute."""
        self._opens.close()
        for path in self._marks:
            self._notices.unwatch(path)
        self._reports.close()

    def _beat(self, check_seconds: float) -> None:
        now = self._clocks()
        step = now.set_since(self._began)
        if step is not None:
            # What was said before is as much too old or too new: idle times begin anew.
            logger.warning("the clock of this machine was set by %+.0f s", step)
            self._began = now
        self._sequence += 1
        self._bus.publish(
            Beat(
                node=self._bus.node,
                sequence=self._sequence,
                started_at=self._began.wall,
                check_seconds=check_seconds,
                at=now.wall,
            )
        )

    async def _look_at_hardware(self) -> None:
        hardware = await self._source.hardware()
        for gpu in hardware.gpus:
            self._gpus.setdefault(gpu.gpu, Watched(inventory=gpu)).inventory = gpu
        for gone in self._gpus.keys() - {gpu.gpu for gpu in hardware.gpus}:
            # A MIG device that was taken apart; a GPU that fell off the bus is still listed.
            del self._gpus[gone]
            self._bus.clear(GpuState, node=self._bus.node, gpu=gone)
        are_others = hardware.devices != self._devices
        self._devices = hardware.devices
        if (self._watch_devices() or are_others) and self._on_devices:
            self._on_devices(self._devices)
        unheard = tuple(path for path in self._devices.values() if path in self._unheard)
        self._reports.hardware(hardware, unheard, sees_others=self._processes.sees_others)

    def _watch_devices(self) -> bool:
        """Listen at each device file, and anew at one that was made anew; tell whether one was."""
        changed = False
        for path in self._devices.values():
            mark = _mark(path)
            if path in self._marks and self._marks[path] == mark:
                continue
            changed = True
            if path in self._marks:
                self._notices.unwatch(path)
            self._marks[path] = mark
            self._unheard.discard(path)
            if not self._notices.watch_opens(path, self._opens.on_notice):
                self._unheard.add(path)
        return changed

    async def _scan(self) -> None:
        """Look at some processes, or at all where no notice tells us where to look.

        The first pass is whole: who came before us must be known before anything is called idle.
        """
        is_blind = self._notices.by == "check"
        slices = BLIND_SLICES if is_blind else SLICES
        while slices > 0 or self._processes.is_new:
            started = time.monotonic()
            if self._processes.scan(SLICE_SECONDS, hurry=is_blind):
                break
            if time.monotonic() - started < SLICE_SECONDS:
                break
            slices -= 1
            await asyncio.sleep(0)

    def _evidence(
        self,
        gpu: GpuInventory,
        sweep: Sweep,
        swept: dict[str, GpuSweep],
        holders: dict[str, frozenset[int]],
    ) -> Evidence:
        one = swept.get(gpu.gpu)
        listed = {process.pid: process for process in (one.processes if one else None) or ()}
        opened = holders.get(gpu.gpu, frozenset())
        if gpu.parent:
            # Who holds the parent's device holds an instance, we cannot see which; all of them,
            # unless the driver lists it on another one.
            elsewhere = {
                process.pid
                for other in self._gpus.values()
                if other.inventory.parent == gpu.parent and other.inventory.gpu in swept
                for process in swept[other.inventory.gpu].processes or ()
            }
            opened = holders.get(gpu.parent, frozenset()) - elsewhere
        found = (
            self._holder(gpu, pid, listed.get(pid), is_open=pid in opened)
            for pid in sorted(listed.keys() | opened)
        )
        return Evidence(
            sweep=one,
            problem=sweep.problem,
            holders=tuple(holder for holder in found if holder is not None),
            sees_others=self._processes.sees_others,
            broken=self._news.broken(gpu),
        )

    def _holder(
        self, gpu: GpuInventory, pid: int, listed: DriverProcess | None, *, is_open: bool
    ) -> Holder | None:
        """Return a holder; None for Gleaner itself, and for one that has gone meanwhile."""
        if pid in self._own_pids():
            return None
        # Read once more: what could not be read may just have changed its program.
        process = self._processes.identify(pid) or self._processes.identify(pid)
        kinds = tuple(
            kind
            for kind in busy.KINDS
            if (listed and kind in listed.kinds) or (is_open and kind == "device_open")
        )
        memory = listed.memory_used_bytes if listed else None
        if process is None:
            gone = Holder(pid=pid, kinds=kinds, memory_used_bytes=memory, alive=False)
            return gone if listed else None
        run = run_of(process, self._processes.identify, self._runs.values())
        why_not = busy.ignored(process, self._policy) if run is None else None
        if run is not None and gpu.gpu not in run.gpus and not listed:
            if gpu.parent:
                return None
            why_not = "our run has opened it, but works elsewhere"
        elif run is None and why_not is None and self._policy.kinds.isdisjoint(kinds):
            why_not = f"{', '.join(kinds)} is not in busy_when"
        holder = Holder(
            pid=pid,
            started_at=process.started_at,
            user_id=process.user_id,
            user=process.user,
            command=process.command,
            kinds=kinds,
            memory_used_bytes=memory,
            run=run.run if run else None,
            entry=run.entry if run else None,
            container=shortened(process.container),
            container_name=self._containers.of(process.container, process.parent_pid),
            ignored=why_not,
        )
        self._news.saw(holder)
        return holder

    def _say(self, watched: Watched, verdict: Verdict, notice: Notice | None = None) -> None:
        before = watched.state
        if before is not None and not _differs(before, verdict):
            return
        now = datetime.now(UTC)
        same = before is not None and before.state is verdict.state
        watched.state = GpuState(
            node=self._bus.node,
            gpu=watched.inventory.gpu,
            index=watched.inventory.index,
            state=verdict.state,
            since=before.since if before is not None and same else now,
            reasons=verdict.reasons,
            holders=verdict.holders,
            at=now,
            noticed_ns=notice.noticed_ns if notice else None,
            noticed_by=notice.by if notice else None,
        )
        self._bus.publish(watched.state)
        if not same:
            self._reports.state_changed()
            data = watched.state.model_dump(mode="json", exclude={"node"})
            self._bus.record(EventKind.GPU, data | {"before": before and before.state.value})

    def _take_in(self, process: Process, notice: Notice) -> None:
        """Say at once what cannot wait for the next check: a stranger holds the device."""
        if busy.ignored(process, self._policy):
            return
        is_ours = run_of(process, self._processes.identify, self._runs.values()) is not None
        if is_ours or "device_open" not in self._policy.kinds:
            # Where an open device does not count, only the driver can tell what it will do.
            self._wanted.set()
            return
        for gpu in self._at(notice.path):
            if not _is_taken(gpu, process.pid):
                self._say_taken(gpu, process, notice)

    def _at(self, path: Path) -> list[Watched]:
        """Return the GPUs behind a device: itself and its MIG devices."""
        return [
            gpu
            for gpu in self._gpus.values()
            if self._devices.get(gpu.inventory.parent or gpu.inventory.gpu) == path
        ]

    def _say_taken(self, watched: Watched, process: Process, notice: Notice) -> None:
        holder = Holder(
            pid=process.pid,
            started_at=process.started_at,
            user_id=process.user_id,
            user=process.user,
            command=process.command,
            kinds=("device_open",),
            container=shortened(process.container),
        )
        self._news.saw(holder)
        known = watched.state.holders if watched.state else ()
        others = (one for one in known if one.pid != process.pid)
        verdict = Verdict(
            state=GpuCondition.BUSY,
            reasons=(busy.describe(holder),),
            holders=(*others, holder),
        )
        watched.past = replace(watched.past, state=GpuCondition.BUSY)
        self._say(watched, verdict, notice)

    def _on_run(self, delivery: Delivery) -> None:
        if not isinstance(delivery.message, Run):
            self._runs.pop(delivery.levels["run"], None)
            return
        run = delivery.message
        before = self._runs.get(run.run)
        self._runs[run.run] = run
        leaving = run.state is RunState.CLEARING or run.state.is_final
        if leaving and (before is None or before.state is not run.state):
            if run.state is RunState.CLEARING:
                self._urgent_until = time.monotonic() + URGENT_FOR_SECONDS
            elif not any(one.state is RunState.CLEARING for one in self._runs.values()):
                self._urgent_until = 0.0
            self._wanted.set()


def _is_taken(gpu: Watched, pid: int | None = None) -> bool:
    """Return whether everybody knows already: it is busy, or this very process holds it."""
    if gpu.state is None:
        return False
    return gpu.state.state is GpuCondition.BUSY or any(
        holder.pid == pid for holder in gpu.state.holders
    )


def _mark(path: Path) -> tuple[int, int, int] | None:
    """Return what tells a device file from another one of the same name."""
    with suppress(OSError):
        status = os.stat(path)
        return status.st_dev, status.st_ino, status.st_rdev
    return None


def _differs(before: GpuState, verdict: Verdict) -> bool:
    """Return whether anybody would want to know; memory in use changes all the time."""
    if before.state is not verdict.state or before.reasons != verdict.reasons:
        return True
    if before.holders == verdict.holders:
        return False
    if len(before.holders) != len(verdict.holders):
        return True
    return any(
        old.model_copy(update={"memory_used_bytes": None})
        != new.model_copy(update={"memory_used_bytes": None})
        or _moved(old.memory_used_bytes, new.memory_used_bytes)
        for old, new in zip(before.holders, verdict.holders, strict=True)
    )


def _moved(old: int | None, new: int | None) -> bool:
    if old is None or new is None:
        return old is not new
    return abs(old - new) > max(MEMORY_STEP_BYTES, old // 20)
