"""A large fleet for the page: what its nodes say at the start, each second and each ten seconds.

1,000 nodes of 8 GPUs behave as a busy site does: two of three GPUs compute, a few are held, the
rest is idle or ours. Every node beats each second and publishes telemetry each ten; every GPU
changes hands about once an hour, which makes two changed facts a second.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from gleaner.bus.message import Message
from gleaner.bus.messages import (
    Availability,
    Beat,
    Blocker,
    Blockers,
    Disk,
    GpuBlockers,
    GpuCondition,
    GpuInventory,
    GpuReading,
    GpuState,
    Holder,
    HostReading,
    Inventory,
    People,
    Person,
    RunnerState,
    SchedulerBeat,
    SchedulerState,
    Telemetry,
)

GIB = 2**30
GPUS = 8
TELEMETRY_SECONDS = 10.0
HOURS_IN_ONE_HAND = 1.0
MODELS = (
    ("NVIDIA H100 80GB HBM3", 80),
    ("NVIDIA A100-SXM4-40GB", 40),
    ("NVIDIA GeForce RTX 4090", 24),
    ("NVIDIA L40S", 48),
)
STATES = (
    *[GpuCondition.BUSY] * 13,
    *[GpuCondition.IDLE] * 4,
    *[GpuCondition.OURS] * 2,
    GpuCondition.HELD,
)
USERS = 300


class LargeFleet:
    """Makes the messages of many nodes; the same ones for the same seed."""

    def __init__(self, nodes: int, seed: int = 1) -> None:
        self.nodes = [f"n{number:04d}" for number in range(nodes)]
        self.clock: Callable[[], datetime] = lambda: datetime.now(UTC)
        self._random = random.Random(seed)
        self._states = {
            (node, index): self._random.choice(STATES)
            for node in self.nodes
            for index in range(GPUS)
        }
        self._sequence = 0

    def facts(self) -> Iterator[Message]:
        """Yield everything that is retained."""
        yield SchedulerState(term=1, at=self.clock())
        for node in self.nodes:
            yield from self._facts(node)

    def beats(self, nodes: list[str]) -> Iterator[Message]:
        """Yield the beats of some nodes."""
        self._sequence += 1
        for node in nodes:
            yield Beat(node=node, sequence=self._sequence, check_seconds=0.002, at=self.clock())

    def scheduler_beat(self) -> Message:
        """Return what says that the scheduler lives."""
        return SchedulerBeat(body="{}", key="k", signature="s")

    def telemetry(self, node: str) -> Telemetry:
        """Return new readings of a node."""
        rows = []
        for index in range(GPUS):
            works = self._states[node, index] in (GpuCondition.BUSY, GpuCondition.OURS)
            rows.append(
                GpuReading(
                    gpu=gpu_id(node, index),
                    index=index,
                    utilization_percent=float(self._random.randint(35, 100) if works else 0),
                    memory_utilization_percent=float(self._random.randint(5, 40) if works else 0),
                    memory_used_bytes=self._random.randint(8, 22) * GIB if works else GIB // 2,
                    memory_total_bytes=model_of(node)[1] * GIB,
                    unattributed_memory_bytes=0,
                    temperature_celsius=float(self._random.randint(40, 80)),
                    power_watts=float(self._random.randint(80, 650)),
                    power_limit_watts=700.0,
                    fan_percent=40.0,
                    sm_clock_mhz=1755.0,
                    memory_clock_mhz=2619.0,
                    performance_state=0,
                    energy_joules=1e9,
                    throttle_reasons=(),
                )
            )
        return Telemetry(
            node=node,
            gpus=tuple(rows),
            host=HostReading(
                cpu_percent=float(self._random.randint(5, 95)),
                cpu_count=128,
                load_1_minute=float(self._random.randint(1, 100)),
                memory_total_bytes=1024 * GIB,
                memory_used_bytes=self._random.randint(50, 900) * GIB,
                uptime_seconds=86400.0 * 40,
                disks=(Disk(mount="/", total_bytes=900 * GIB, used_bytes=410 * GIB),),
            ),
            interval_seconds=TELEMETRY_SECONDS,
            at=self.clock(),
        )

    def change(self) -> Message:
        """Let some GPU change hands."""
        node, index = self._random.choice(self.nodes), self._random.randrange(GPUS)
        self._states[node, index] = self._random.choice(STATES)
        return self._state(node, index, self.clock())

    def everything_changes(self) -> Iterator[Message]:
        """Let one GPU of every node change hands at the same moment."""
        for node in self.nodes:
            self._states[node, 0] = self._random.choice(STATES)
            yield self._state(node, 0, self.clock())

    def _facts(self, node: str) -> Iterator[Message]:
        now = self.clock()
        name, memory = model_of(node)
        yield Availability(
            service="node", instance=node, state="online", connection="c", version="0.1", at=now
        )
        yield Inventory(
            node=node,
            host=f"{node}.cluster.example.org",
            boot_id="b",
            agent_version="0.1",
            source="nvml",
            driver_version="570.86.15",
            gpus=tuple(
                GpuInventory(
                    gpu=gpu_id(node, index),
                    index=index,
                    minor=index,
                    name=name,
                    memory_total_bytes=memory * GIB,
                    power_limit_watts=700.0,
                    pci_bus_id=f"0000:{index:02x}:00.0",
                )
                for index in range(GPUS)
            ),
            notices_opens_by="fanotify",
            notices_people_by="fanotify",
            labels=(f"row-{int(node[1:]) // 100}",),
            at=now,
        )
        for index in range(GPUS):
            yield self._state(node, index, now - timedelta(minutes=self._random.randint(1, 900)))
        yield People(
            node=node,
            watched=True,
            active=False,
            reason="nobody is active",
            people=(Person(user="user1", where="pts/0", active=False, since=now),),
            since=now,
            at=now,
        )
        yield RunnerState(
            node=node,
            paused=False,
            watched=True,
            term=1,
            generation=1,
            lease="held",
            runs=(),
            at=now,
        )
        yield Blockers(
            node=node,
            gpus=tuple(
                GpuBlockers(
                    gpu=gpu_id(node, index),
                    blockers=(Blocker(code="busy", text="a person's process computes here"),),
                )
                for index in range(GPUS)
            ),
            workloads=(),
            at=now,
        )
        yield self.telemetry(node)

    def state_of(self, node: str, index: int) -> GpuState:
        """Return what a node says of one GPU."""
        return self._state(node, index, self.clock())

    def _state(self, node: str, index: int, since: datetime) -> GpuState:
        state = self._states[node, index]
        user = f"user{self._random.randint(1, USERS)}"
        pid = self._random.randint(1000, 4_000_000)
        is_ours = state is GpuCondition.OURS
        holder = Holder(
            pid=pid,
            started_at=since,
            user_id=1000,
            user="nobody" if is_ours else user,
            command="fold" if is_ours else "python train.py",
            kinds=("compute",),
            memory_used_bytes=self._random.randint(4, 20) * GIB,
            run="run-1" if is_ours else None,
            entry="fold" if is_ours else None,
        )
        return GpuState(
            node=node,
            gpu=gpu_id(node, index),
            index=index,
            state=state,
            since=since,
            reasons=() if state is GpuCondition.IDLE else (f"{user} computes (pid {pid}, python)",),
            holders=() if state is GpuCondition.IDLE else (holder,),
            at=self.clock(),
        )


def gpu_id(node: str, index: int) -> str:
    """Return a UUID as long as a real one."""
    return f"GPU-{node[1:]:0>8}-1111-2222-3333-{index:012d}"


def model_of(node: str) -> tuple[str, int]:
    """Return name and GiB of a node's GPUs."""
    return MODELS[int(node[1:]) // 50 % len(MODELS)]
