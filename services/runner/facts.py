"""What this node knows about its GPUs and people at one moment, as its collector said it.

Times are seconds of CLOCK_BOOTTIME, which goes on while the machine is suspended: what was known
before a suspension is old afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gleaner.bus.messages import GpuCondition, GpuState, Inventory, People

DOUBTFUL = frozenset({GpuCondition.UNKNOWN, GpuCondition.DIRTY})


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The last word on everything; None where nothing was said yet."""

    listening_since: float
    inventory: Inventory | None = None
    people: People | None = None
    gpus: Mapping[str, GpuState] = field(default_factory=dict)
    doubtful_since: Mapping[str, float] = field(default_factory=dict)
    """GPUs about which nothing sure is known, and since when without a break."""
    beat_at: float | None = None
    paused: str | None = None
    """Why nothing may run here, in words, or None."""

    def is_watched(self, now: float, patience: float) -> bool:
        """Whether a check was completed lately."""
        return self.beat_at is not None and now - self.beat_at < patience

    def name(self, gpu: str) -> str:
        """Return what people call a GPU: `GPU 0`."""
        state = self.gpus.get(gpu)
        if state is not None:
            return f"GPU {state.index}"
        known = self.inventory.gpus if self.inventory else ()
        return next((f"GPU {one.index}" for one in known if one.gpu == gpu), f"GPU {gpu}")


def with_gpu(facts: Facts, state: GpuState, now: float) -> Facts:
    """Take in what is said about one GPU."""
    doubtful = {gpu: since for gpu, since in facts.doubtful_since.items() if gpu != state.gpu}
    if state.state in DOUBTFUL:
        doubtful[state.gpu] = facts.doubtful_since.get(state.gpu, now)
    return replace(facts, gpus={**facts.gpus, state.gpu: state}, doubtful_since=doubtful)


def without_gpu(facts: Facts, gpu: str, now: float) -> Facts:
    """Forget what was said about one GPU, because it was taken back."""
    gpus = {name: state for name, state in facts.gpus.items() if name != gpu}
    doubtful = {**facts.doubtful_since, gpu: facts.doubtful_since.get(gpu, now)}
    return replace(facts, gpus=gpus, doubtful_since=doubtful)
