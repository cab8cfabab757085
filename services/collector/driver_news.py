"""Make events of what the driver tells besides readings: errors, and processes nobody sampled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

from gleaner.bus.local import NodeBus
from gleaner.bus.messages import (
    EventKind,
    GpuInventory,
    GpuReading,
    GpuState,
    Holder,
    ShortProcess,
)
from services.collector import faults
from services.collector.faults import Faults
from services.collector.interface import EndedProcess, Sweep
from services.collector.processes.holding import container_of, name_of, users_of

REMEMBERED = 4096
"""Holders that may still turn up in the driver's accounting; its own buffer is of this size."""
_CLOCK_STEP = timedelta(seconds=2)

K = TypeVar("K")


class DriverNews:
    """Remembers each GPU's errors, and who held a GPU lately; records what is new."""

    def __init__(self, bus: NodeBus) -> None:
        self._bus = bus
        self._faults: dict[str, Faults] = {}
        self._broken: dict[str, tuple[str, ...]] = {}
        self._seen: dict[int, Holder] = {}
        self._sampled: dict[tuple[str, int], Holder] = {}

    def take_in(self, sweep: Sweep, now: float) -> Sweep:
        """Record what is new, and return the sweep with each GPU's errors in its reading."""
        gpus = []
        for one in sweep.gpus:
            past = self._faults.get(one.gpu, Faults())
            known, problems = faults.take_in(one, past, sweep.session, now)
            self._faults[one.gpu] = known
            self._broken[one.gpu] = faults.broken(one.reading, known, now)
            for problem in problems:
                self._bus.record(EventKind.PROBLEM, problem)
            for process in one.ended:
                self._record_ended(one.reading, process)
            if sweep.session and (known.xids or "xids" not in one.reading.problems):
                xids = tuple(faults.told_of(known))
                one = replace(one, reading=one.reading.model_copy(update={"xids": xids}))
            gpus.append(one)
        return replace(sweep, gpus=tuple(gpus))

    def broken(self, gpu: GpuInventory) -> tuple[str, ...]:
        """Return why nothing should be started on a GPU: a MIG device is as broken as its GPU."""
        names = (gpu.gpu, gpu.parent) if gpu.parent else (gpu.gpu,)
        return tuple(why for name in names for why in self._broken.get(name, ()))

    def saw(self, holder: Holder) -> None:
        """Remember who a process was, for when only the driver's accounting knows its pid."""
        self._seen.pop(holder.pid, None)
        self._seen[holder.pid] = holder
        _keep_newest(self._seen)

    def sampled(self, states: Iterable[GpuState | None]) -> None:
        """Remember who is in a sample, and thereby in a session."""
        for state in states:
            if state is None or users_of(state) is None:
                continue
            for holder in state.holders:
                self._sampled.pop((state.gpu, holder.pid), None)
                self._sampled[state.gpu, holder.pid] = holder
        _keep_newest(self._sampled)

    def _record_ended(self, gpu: GpuReading, process: EndedProcess) -> None:
        if _is_same(self._sampled.get((gpu.gpu, process.pid)), process):
            return
        seen = self._seen.get(process.pid)
        holder = seen if _is_same(seen, process) else None
        if holder is not None and holder.ignored is not None:
            return
        short = ShortProcess(
            gpu=gpu.gpu,
            index=gpu.index,
            pid=process.pid,
            user=name_of(holder) if holder else None,
            command=holder.command if holder else None,
            run=holder.run if holder else None,
            entry=holder.entry if holder else None,
            container=container_of(holder) if holder else None,
            started_at=process.started_at,
            active_seconds=process.active_seconds,
            memory_used_bytes=process.memory_used_bytes,
            utilization_percent=process.utilization_percent,
            memory_utilization_percent=process.memory_utilization_percent,
        )
        self._bus.record(EventKind.SHORT_PROCESS, short.model_dump(mode="json"))


def _is_same(holder: Holder | None, process: EndedProcess) -> bool:
    """Return whether a holder is that very process, and not a later one with the same pid."""
    if holder is None:
        return False
    return holder.started_at is None or holder.started_at <= process.started_at + _CLOCK_STEP


def _keep_newest(remembered: dict[K, Holder]) -> None:
    while len(remembered) > REMEMBERED:
        del remembered[next(iter(remembered))]
