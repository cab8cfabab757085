"""GPUs that somebody holds without using them, longest first; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from gleaner.bus.messages import GpuCondition
from services.web.shown.filter import users_of
from services.web.shown.view import Gpu, Node


@dataclass(frozen=True, kw_only=True)
class HeldGpu:
    """One of them. Every hour since is a GPU-hour wasted."""

    node: str
    name: str
    gpu: str
    index: int | None
    model: str
    owner: str
    memory_used_bytes: int | None
    """Of the owners' processes, where it is known of all."""
    since: datetime


def held(nodes: Iterable[Node]) -> list[HeldGpu]:
    """Return what is held now; of a node that is not online nobody knows."""
    found = [
        _held(node, gpu, gpu.since)
        for node in nodes
        for gpu in node.gpus
        if gpu.state is GpuCondition.HELD and gpu.since is not None and gpu.schedulable
    ]
    return sorted(found, key=lambda one: (one.since, one.node, one.index or 0))


def _held(node: Node, gpu: Gpu, since: datetime) -> HeldGpu:
    memory = [
        one.memory_used_bytes for one in gpu.holders if one.run is None and one.ignored is None
    ]
    known = [number for number in memory if number is not None]
    return HeldGpu(
        node=node.node,
        name=node.name,
        gpu=gpu.gpu,
        index=gpu.index,
        model=gpu.model,
        owner=", ".join(users_of(gpu)) or "nobody known",
        memory_used_bytes=sum(known) if known and len(known) == len(memory) else None,
        since=since,
    )
