"""What there is on a simulated node: GPUs, processes and people, as plain values."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from gleaner.bus.messages import GpuInventory
from services.collector.interface import Kind, Process

MEMORY_BYTES = 80 * 2**30
POWER_LIMIT_WATTS = 700.0
COMPUTES: frozenset[Kind] = frozenset({"compute"})


@dataclass(kw_only=True)
class SimulatedGpu:
    """One GPU and what is wrong with it."""

    inventory: GpuInventory
    device: Path
    lost: str | None = None
    unattributed_memory_bytes: int = 0
    xids: list[int] = field(default_factory=list)
    """Errors that the driver has not told yet."""
    energy_joules: float = 0.0
    asked_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class SimulatedProcess:
    """One process and what it does to which GPUs, by index."""

    process: Process
    gpus: tuple[int, ...] = ()
    kinds: frozenset[Kind] = COMPUTES
    """Empty: it holds the device open, and the driver does not list it."""
    utilization_percent: float = 0
    memory_used_bytes: int = 0
    """On each of its GPUs."""


@dataclass(kw_only=True)
class SimulatedPerson:
    """Somebody who is logged in."""

    user: str
    where: str
    path: Path
    typed_at: datetime


@dataclass(kw_only=True)
class World:
    """Everything there is on a simulated node."""

    clock: Callable[[], datetime]
    gpus: tuple[SimulatedGpu, ...]
    processes: dict[int, SimulatedProcess] = field(default_factory=dict)
    people: dict[str, SimulatedPerson] = field(default_factory=dict)
    """By where they are."""
    driver_problem: str | None = None

    def on(self, index: int) -> tuple[SimulatedProcess, ...]:
        """Return the processes on a GPU."""
        return tuple(one for one in self.processes.values() if index in one.gpus)


def user_id_of(user: str) -> int:
    """Return the number of a simulated user."""
    return 2000 + zlib.crc32(user.encode()) % 50_000
