"""How long the scheduler's steps take, with idle GPUs by the thousand.

python -m benchmarks.scheduler [nodes] [GPUs of each]
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from benchmarks.figures import print_machine
from gleaner.bus.interface import Delivery
from gleaner.bus.message import Message
from gleaner.bus.messages import (
    Beat,
    Catalogue,
    CatalogueEntry,
    DesiredBody,
    GpuCondition,
    GpuInventory,
    GpuState,
    Inventory,
    People,
    RunnerState,
)
from gleaner.settings import SchedulerSettings
from services.scheduler.events import Connected, Event, Heard, More, Said, Tick
from services.scheduler.memory import Memory, remembered
from services.scheduler.state import State
from services.scheduler.step import step

START = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = SchedulerSettings()
ENTRIES: tuple[tuple[str, Literal["each", "all"]], ...] = (
    ("burn", "all"),
    ("fold", "each"),
    ("mine", "each"),
)


class Clockwork:
    """A scheduler's state and how long each step took."""

    def __init__(self) -> None:
        self.now = START
        self.state: State = remembered(Memory(), START)
        self.took: list[float] = []

    def happen(self, event: Event) -> list[Said]:
        """Take a step and its time."""
        began = time.perf_counter()
        self.state, said = step(self.state, event, POLICY)
        self.took.append(time.perf_counter() - began)
        return said

    def hear(self, message: Message) -> list[Said]:
        """Hear a live message."""
        delivery = Delivery(
            message_type=type(message), levels=message.levels(), message=message, retained=False
        )
        return self.happen(Heard(delivery=delivery, at=self.now))

    def beats(self, nodes: int) -> None:
        """Hear a beat of every node."""
        for number in range(nodes):
            self.hear(Beat(node=f"n{number}", sequence=1, check_seconds=0.01, at=self.now))

    def rest(self) -> list[Said]:
        """Decide for what one step left, as the service does when nothing else happens."""
        said: list[Said] = []
        while self.state.touched:
            said += self.happen(More(at=self.now))
        return said

    def report(self, what: str) -> None:
        """Print what the steps since the last report took."""
        took = sorted(one * 1000 for one in self.took)
        print(
            f"{what:42} {len(took):6} steps  p50 {statistics.median(took):8.3f} ms  "
            f"p99 {took[int(len(took) * 0.99)]:8.3f} ms  max {took[-1]:8.3f} ms  "
            f"sum {sum(took) / 1000:6.2f} s"
        )
        self.took.clear()


def facts(name: str, gpus: int) -> list[Message]:
    """Return what a node says when it starts, with idle GPUs that were busy a moment ago."""
    return [
        Inventory(
            node=name,
            host=name,
            boot_id="b",
            agent_version="1",
            source="simulated",
            gpus=tuple(
                GpuInventory(gpu=f"GPU-{name}-{index}", index=index, name="H100")
                for index in range(gpus)
            ),
            notices_opens_by="script",
            notices_people_by="script",
            at=START,
        ),
        Catalogue(
            node=name,
            entries=tuple(
                CatalogueEntry(name=entry, kind="filler", gpus=wanted, digest="d", grace_seconds=5)
                for entry, wanted in ENTRIES
            ),
            at=START,
        ),
        *(
            GpuState(
                node=name,
                gpu=f"GPU-{name}-{index}",
                index=index,
                state=GpuCondition.BUSY if index == 0 else GpuCondition.IDLE,
                since=START,
                at=START,
            )
            for index in range(gpus)
        ),
        People(
            node=name,
            watched=True,
            active=False,
            reason="nobody is active",
            since=START,
            at=START,
        ),
        RunnerState(
            node=name,
            paused=False,
            watched=True,
            term=None,
            generation=None,
            lease="held",
            at=START,
        ),
    ]


def measure(nodes: int = 1000, gpus: int = 8) -> None:
    """Let a fleet start, wait, be granted runs and go on; print each part."""
    clockwork = Clockwork()
    clockwork.happen(Connected(at=START))
    for number in range(nodes):
        for message in facts(f"n{number}", gpus):
            clockwork.hear(message)
    clockwork.report("facts of the start")
    clockwork.now += timedelta(seconds=2)
    clockwork.happen(Tick(at=clockwork.now))
    clockwork.rest()
    clockwork.report("first decision over all nodes")
    clockwork.beats(nodes)
    clockwork.report("first beats: every node becomes live")
    ticks(clockwork, nodes, 55, "counting idle seconds")
    ticks(clockwork, nodes, 8, "the minute is over: all is granted")
    ticks(clockwork, nodes, 30, "nothing changes")
    everything(clockwork)


def ticks(clockwork: Clockwork, nodes: int, seconds: int, what: str) -> None:
    """Let seconds go by, with a beat of each node in each."""
    took: dict[str, list[float]] = {"beats": [], "ticks": []}
    granted = 0
    for _ in range(seconds):
        clockwork.now += timedelta(seconds=1)
        clockwork.beats(nodes)
        took["beats"] += clockwork.took
        clockwork.took = []
        said = clockwork.happen(Tick(at=clockwork.now)) + clockwork.rest()
        granted += sum(len(one.runs) for one in said if isinstance(one, DesiredBody))
        took["ticks"] += clockwork.took
        clockwork.took = []
    for kind, times in took.items():
        clockwork.took = times
        clockwork.report(f"{what}: {kind}")
    if granted:
        print(f"{'':42} {granted} runs granted")


def everything(clockwork: Clockwork) -> None:
    """Decide for every node at once, as after a pause of the fleet."""
    for _ in range(5):
        clockwork.state = replace(clockwork.state, touched=frozenset(clockwork.state.nodes))
        began = time.perf_counter()
        clockwork.rest()
        clockwork.took = [time.perf_counter() - began]
        clockwork.report("a full decision over all nodes")


if __name__ == "__main__":
    print_machine()
    measure(
        **{name: int(word) for name, word in zip(("nodes", "gpus"), sys.argv[1:], strict=False)}
    )
