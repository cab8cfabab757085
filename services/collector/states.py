"""Say what each GPU is, when anybody would want to know, and remember what was said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gleaner.bus.local import NodeBus
from gleaner.bus.messages import EventKind, GpuCondition, GpuInventory, GpuState
from services.collector import busy
from services.collector.busy import Past, Verdict
from services.collector.interface import Notice

MEMORY_STEP_BYTES = 64 * busy.MIB
"""A holder's memory that changed by less (and by less than a twentieth) is not said anew."""


@dataclass(kw_only=True)
class Watched:
    """One GPU, what was last said about it and what is remembered."""

    inventory: GpuInventory
    state: GpuState | None = None
    past: Past = field(default=Past())

    def is_taken(self, pid: int | None = None) -> bool:
        """Return whether everybody knows already: it is busy, or this very process holds it."""
        if self.state is None:
            return False
        return self.state.state is GpuCondition.BUSY or any(
            holder.pid == pid for holder in self.state.holders
        )


class States:
    """The GPUs of a node; the one place that writes their states."""

    def __init__(self, bus: NodeBus, changed: Callable[[], None]) -> None:
        """Store the bus; `changed` hears that a GPU is something else than before."""
        self._bus = bus
        self._changed = changed
        self._gpus: dict[str, Watched] = {}

    def __iter__(self) -> Iterator[Watched]:
        return iter(self._gpus.values())

    def know(self, gpus: Iterable[GpuInventory]) -> None:
        """Take in which GPUs there are; clear the state of one that is there no more."""
        there = {gpu.gpu: gpu for gpu in gpus}
        for gpu in there.values():
            self._gpus.setdefault(gpu.gpu, Watched(inventory=gpu)).inventory = gpu
        for gone in self._gpus.keys() - there.keys():
            # A MIG device that was taken apart; a GPU that fell off the bus is still listed.
            del self._gpus[gone]
            self._bus.clear(GpuState, node=self._bus.node, gpu=gone)

    def say(self, watched: Watched, verdict: Verdict, notice: Notice | None = None) -> None:
        """Publish what a GPU is, unless everybody knows; and what noticed it, if something did."""
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
            self._changed()
            data = watched.state.model_dump(mode="json", exclude={"node"})
            self._bus.record(EventKind.GPU, data | {"before": before and before.state.value})


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
