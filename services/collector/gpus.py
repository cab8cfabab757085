"""Watch the GPUs of a node: the full check, its beat, and what cannot wait for either.

Who opened a device is found in `opens`, who holds one in `evidence`; what that makes of a GPU is
decided in `busy` and said in `states`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from gleaner.bus.interface import Delivery
from gleaner.bus.local import NodeBus
from gleaner.bus.messages import Beat, GpuCondition, Run, RunState
from gleaner.settings import NodeSettings
from services.collector import busy
from services.collector.busy import Verdict
from services.collector.clock import Clocks, read_clocks
from services.collector.driver_news import DriverNews
from services.collector.due import Due
from services.collector.evidence import Answers, Evidences
from services.collector.interface import Notice, Notices, Process, Processes, Source
from services.collector.kernel.listening import Listening
from services.collector.kernel.opens import Opens
from services.collector.reports import Reports, Sight
from services.collector.states import States, Watched

logger = logging.getLogger(__name__)

SLICE_SECONDS = 0.005
SLICES = 5
"""At most so many slices a check, with other work in between: 2,000 processes within 10 s."""
BLIND_SLICES = 50
"""The same where no notice tells us where to look: a quarter of a check's second."""


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
        self._policy = busy.policy(settings.gpu)
        self._source = source
        self._processes = processes
        self._notices = notices
        self._on_devices = on_devices
        self._reports = Reports(bus, settings, source, notices, people, limitations)
        self._news = DriverNews(bus)
        self._runs = {run.run: run for run in runs}
        self._evidences = Evidences(
            processes, self._policy, self._news, runs=self._runs, own_pids=own_pids
        )
        self._states = States(bus, self._reports.state_changed)
        self._due = Due(settings.gpu.check_seconds)
        self._sequence = 0
        self._clocks = clocks
        self._began = clocks()
        self._opens = Opens(
            processes,
            devices=lambda: self._listening.devices,
            is_known=lambda path, pid: all(gpu.is_taken(pid) for gpu in self._at(path)),
            found=self._take_in,
            own_pids=own_pids,
        )
        self._listening = Listening(notices, self._opens.on_notice)
        bus.subscribe(Run, self._on_run, node=bus.node)

    async def check(self) -> None:
        """Ask the driver and the process table, say what changed, then beat."""
        started = time.monotonic()
        await self._look_at_hardware()
        sweep = self._news.take_in(await self._source.sweep(), started)
        await self._scan()
        answers = Answers(
            gpus=tuple(watched.inventory for watched in self._states),
            sweep=sweep,
            swept={one.gpu: one for one in sweep.gpus},
            open_by=self._processes.holders(),
        )
        readings = []
        for watched in self._states:
            found = self._evidences.of(watched.inventory, answers)
            verdict, watched.past = busy.judge(found, watched.past, self._policy, started)
            self._states.say(watched, verdict)
            readings.append((watched, found))
        self._reports.problem(sweep.problem)
        seen = [(watched.inventory, watched.state, found) for watched, found in readings]
        if await self._reports.readings(seen):
            self._news.sampled(state for _, state, _ in seen)
        self._beat(time.monotonic() - started)

    async def wait(self, started: float) -> None:
        """Return when the next check is due: by the clock, or because something asks for it."""
        await self._due.wait(started, self._sequence)

    def close(self) -> None:
        """Forget what was to be looked at, and keep the samples of the unfinished minute."""
        self._opens.close()
        self._listening.close()
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
        self._states.know(hardware.gpus)
        if self._listening.follow(hardware.devices) and self._on_devices:
            self._on_devices(hardware.devices)
        self._reports.hardware(
            hardware, self._listening.unheard(), sees_others=self._processes.sees_others
        )

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

    def _take_in(self, process: Process, notice: Notice) -> None:
        """Say at once what cannot wait for the next check: a stranger holds the device."""
        if busy.ignored(process, self._policy):
            return
        if self._evidences.is_ours(process) or "device_open" not in self._policy.kinds:
            # Where an open device does not count, only the driver can tell what it will do.
            self._due.soon()
            return
        for gpu in self._at(notice.path):
            if not gpu.is_taken(process.pid):
                self._say_taken(gpu, process, notice)

    def _at(self, path: Path) -> list[Watched]:
        """Return the GPUs behind a device: itself and its MIG devices."""
        devices = self._listening.devices
        return [
            gpu
            for gpu in self._states
            if devices.get(gpu.inventory.parent or gpu.inventory.gpu) == path
        ]

    def _say_taken(self, watched: Watched, process: Process, notice: Notice) -> None:
        holder = self._evidences.stranger(process)
        known = watched.state.holders if watched.state else ()
        others = (one for one in known if one.pid != process.pid)
        verdict = Verdict(
            state=GpuCondition.BUSY,
            reasons=(busy.describe(holder),),
            holders=(*others, holder),
        )
        watched.past = replace(watched.past, state=GpuCondition.BUSY)
        self._states.say(watched, verdict, notice)

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
                self._due.be_urgent()
            elif not any(one.state is RunState.CLEARING for one in self._runs.values()):
                self._due.be_calm()
            self._due.soon()
