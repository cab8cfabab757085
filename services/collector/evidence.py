"""Who holds each GPU, and on whose behalf: the driver's list and the process table together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from gleaner.bus.messages import GpuInventory, Holder, Run
from services.collector import busy
from services.collector.busy import Evidence, Policy
from services.collector.driver_news import DriverNews
from services.collector.interface import DriverProcess, GpuSweep, Process, Processes, Sweep
from services.collector.processes.containers import ContainerNames, shortened
from services.collector.processes.ours import run_of


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What driver and process table answered in one check."""

    gpus: tuple[GpuInventory, ...]
    sweep: Sweep
    swept: Mapping[str, GpuSweep]
    """Of the sweep, by GPU."""
    open_by: Mapping[str, frozenset[int]]
    """GPU to pids that hold its device."""


class Evidences:
    """Finds out about each process that holds a GPU, and remembers it for the driver's news."""

    def __init__(
        self,
        processes: Processes,
        policy: Policy,
        news: DriverNews,
        *,
        runs: Mapping[str, Run],
        own_pids: Callable[[], Collection[int]],
    ) -> None:
        """Store what is asked; `runs` are the node's, by id, as they are at any moment."""
        self._processes = processes
        self._policy = policy
        self._news = news
        self._runs = runs
        self._own_pids = own_pids
        self._containers = ContainerNames()

    def of(self, gpu: GpuInventory, answers: Answers) -> Evidence:
        """Return all that is known about a GPU."""
        one = answers.swept.get(gpu.gpu)
        listed = {process.pid: process for process in (one.processes if one else None) or ()}
        opened = _opened(gpu, answers)
        found = (
            self._holder(gpu, pid, listed.get(pid), is_open=pid in opened)
            for pid in sorted(listed.keys() | opened)
        )
        return Evidence(
            sweep=one,
            problem=answers.sweep.problem,
            holders=tuple(holder for holder in found if holder is not None),
            sees_others=self._processes.sees_others,
            broken=self._news.broken(gpu),
        )

    def is_ours(self, process: Process) -> bool:
        """Tell whether a process belongs to one of our runs."""
        return run_of(process, self._processes.identify, self._runs.values()) is not None

    def stranger(self, process: Process) -> Holder:
        """Return a holder that has just opened a device, of which no more is known yet."""
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
        return holder

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


def _opened(gpu: GpuInventory, answers: Answers) -> frozenset[int]:
    """Return who holds the device of a GPU, or may hold a MIG device."""
    if not gpu.parent:
        return answers.open_by.get(gpu.gpu, frozenset())
    # Who holds the parent's device holds an instance, we cannot see which; all of them,
    # unless the driver lists it on another one.
    elsewhere = {
        process.pid
        for other in answers.gpus
        if other.parent == gpu.parent and other.gpu in answers.swept
        for process in answers.swept[other.gpu].processes or ()
    }
    return answers.open_by.get(gpu.parent, frozenset()) - elsewhere
