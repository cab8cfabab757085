"""A runner on an in-memory broker, with a collector's and a scheduler's part played by the test."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gleaner.bus.interface import Delivery
from gleaner.bus.local import NodeBus
from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.message import Writer
from gleaner.bus.messages import (
    Beat,
    BeatBody,
    Catalogue,
    Desired,
    DesiredBody,
    GpuCondition,
    GpuInventory,
    GpuState,
    Grant,
    Holder,
    Inventory,
    People,
    Recorded,
    Run,
    RunnerState,
    SchedulerBeat,
)
from gleaner.bus.outbox import Outbox
from gleaner.bus.signature import Signer
from gleaner.settings import NodeSettings, WorkloadSettings
from services.runner.launcher import Launcher
from services.runner.service import alone, run_node
from services.runner.settings import RunnerSettings
from services.runner.timing import Timing
from tests.builders import until

NODE = "n1"
SIGNER = Signer(bytes(range(32)))
QUICK = Timing(tick=0.05, clearing=2.0, retry=0.2, catalogue=0.2)
ROLES = frozenset({Writer.RUNNER, Writer.COLLECTOR})
GPUS = ("GPU-0", "GPU-1")


def workload(command: str = "sleep 1000", **more: Any) -> WorkloadSettings:
    """Return an entry called `fold` that runs as whoever runs the tests."""
    user = {"user": "root"} if os.geteuid() == 0 else {}
    return WorkloadSettings(**{"name": "fold", "command": command, **user, **more})


def inventory(gpus: tuple[str, ...] = GPUS) -> Inventory:
    return Inventory(
        node=NODE,
        host=NODE,
        boot_id="boot",
        agent_version="0",
        source="simulated",
        gpus=tuple(GpuInventory(gpu=gpu, index=index) for index, gpu in enumerate(gpus)),
        notices_opens_by="script",
        notices_people_by="script",
        at=datetime.now(UTC),
    )


def gpu_state(
    gpu: str = "GPU-0",
    state: GpuCondition = GpuCondition.IDLE,
    *reasons: str,
    holders: tuple[Holder, ...] = (),
    noticed_ns: int | None = None,
) -> GpuState:
    now = datetime.now(UTC)
    return GpuState(
        node=NODE,
        gpu=gpu,
        index=int(gpu.rpartition("-")[2]),
        state=state,
        since=now,
        reasons=reasons,
        holders=holders,
        at=now,
        noticed_ns=noticed_ns,
    )


def people(active: bool = False, *, watched: bool = True, noticed_ns: int | None = None) -> People:
    now = datetime.now(UTC)
    return People(
        node=NODE,
        watched=watched,
        active=active,
        reason="user1 is active at pts/3" if active else "nobody is active",
        since=now,
        at=now,
        noticed_ns=noticed_ns,
    )


def signed_wish(
    *grants: Grant,
    term: int = 1,
    generation: int,
    signer: Signer = SIGNER,
    node: str = NODE,
    withdrawn: dict[str, str] | None = None,
) -> Desired:
    body = DesiredBody(
        node=node,
        term=term,
        generation=generation,
        runs=grants,
        withdrawn=withdrawn or {},
        at=datetime.now(UTC),
    )
    return Desired(node=NODE, **signer.sign(body))


def signed_beat(sequence: int, term: int = 1) -> SchedulerBeat:
    body = BeatBody(term=term, generation=1, sequence=sequence, at=datetime.now(UTC))
    return SchedulerBeat(**SIGNER.sign(body))


class Rig:
    """One node's runner, everything said by it, and the voices it listens to."""

    def __init__(
        self,
        directory: Path,
        *workloads: WorkloadSettings,
        launcher: Launcher | None = None,
        timing: Timing = QUICK,
        source: str = "auto",
    ) -> None:
        self.directory = directory
        self.settings = RunnerSettings(
            node=NodeSettings(
                id=NODE,
                data_directory=directory,
                scheduler_keys=(SIGNER.public,),
                gpu={"source": source},
            ),
            workload=workloads,
        )
        self.broker = MemoryBroker()
        self.scheduler = MemoryBus(self.broker, "scheduler", "1")
        self.remote = MemoryBus(self.broker, "node", NODE)
        self.history: dict[str, list[Run]] = {}
        self.facts: dict[str, Run] = {}
        self.state: RunnerState | None = None
        self.catalogue: Catalogue | None = None
        self.generation = 0
        self._launcher = launcher
        self._timing = timing
        self._numbers = itertools.count(1)
        self._checks = True
        self._task: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Rig]:
        """Run it, with idle GPUs and nobody there, a collector that checks, a scheduler heard."""
        with Outbox(None) as self.outbox:
            self.bus = NodeBus(NODE, "boot", self.remote, self.outbox, ROLES)
            self.bus.subscribe(Run, self._on_run)
            self.bus.subscribe(RunnerState, self._on_state)
            self.bus.subscribe(Catalogue, self._on_catalogue)
            async with self.remote, self.scheduler:
                checks = asyncio.create_task(self._check_for_ever())
                self._task = task = asyncio.create_task(self._serve())
                try:
                    await until(lambda: self.state is not None or task.done())
                    self.bus.publish(inventory())
                    self.bus.publish(people())
                    for gpu in GPUS:
                        self.bus.publish(gpu_state(gpu))
                    yield self
                finally:
                    checks.cancel()
                    await self.stop()

    async def _serve(self) -> None:
        with alone(self.settings.node.data_directory):
            await run_node(self.bus, self.settings, launcher=self._launcher, timing=self._timing)

    async def stop(self) -> None:
        """Stop the service as TERM does, and wait for it."""
        assert self._task
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def be_silent(self) -> None:
        """The collector completes no more checks."""
        self._checks = False

    def grant(self, run: str = "r1", *gpus: str, entry: str = "fold") -> Grant:
        """Return a grant of the entry as the catalogue has it."""
        assert self.catalogue
        digest = next(
            (one.digest for one in self.catalogue.entries if one.name == entry), "unknown"
        )
        return Grant(
            run=run,
            entry=entry,
            digest=digest,
            gpus=gpus or ("GPU-0",),
            granted_at=datetime.now(UTC),
            reason="idle for 60 s",
        )

    def wish(self, *grants: Grant, term: int = 1, withdrawn: dict[str, str] | None = None) -> None:
        """Publish what the node shall run, and perhaps why it shall run no longer what it did."""
        self.generation += 1
        wish = signed_wish(*grants, term=term, generation=self.generation, withdrawn=withdrawn)
        self.scheduler.publish(wish)

    def beat(self, term: int = 1) -> None:
        """Let the scheduler be heard."""
        self.scheduler.publish(signed_beat(next(self._numbers), term))

    async def launched(self, *runs: str) -> None:
        """Wish for one run per GPU and wait until they run."""
        runs = runs or ("r1",)
        self.wish(*(self.grant(run, GPUS[index]) for index, run in enumerate(runs)))
        self.beat()
        for run in runs:
            await self.reached(run, "running")

    async def launched_and_over(self, run: str = "r1") -> Run:
        """Wish for a run that ends by itself, and wait for that."""
        self.wish(self.grant(run))
        self.beat()
        return await self.is_over(run)

    async def reached(self, run: str, *states: str, seconds: float = 10) -> Run:
        """Wait until a run is in one of these states; return its fact."""
        try:
            await until(
                lambda: run in self.facts and self.facts[run].state.value in states, seconds
            )
        except AssertionError:
            raise AssertionError(f"{run} is {self.facts.get(run)}; {self.state}") from None
        return self.facts[run]

    async def is_over(self, run: str = "r1", seconds: float = 10) -> Run:
        """Wait until a run is final; return its fact."""
        await until(lambda: run in self.facts and self.facts[run].state.is_final, seconds)
        return self.facts[run]

    async def refused(self, words: str) -> None:
        """Wait until a grant was refused with these words."""
        await until(lambda: bool(self.state and words in " ".join(self.state.refusals)))

    def record_everything(self) -> None:
        """Be a recorder that has committed all."""
        streams = {self.outbox.stream: self.outbox.last}
        self.scheduler.publish(Recorded(node=NODE, streams=streams, at=datetime.now(UTC)))

    def events(self, run: str) -> list[dict[str, Any]]:
        """Return the recorded events of a run."""
        found = self.outbox.after({}, 1000, 1000)
        return [event.data for event in found if event.data.get("run") == run]

    async def _check_for_ever(self) -> None:
        for number in itertools.count():
            if self._checks:
                now = datetime.now(UTC)
                self.bus.publish(Beat(node=NODE, sequence=number, check_seconds=0, at=now))
            await asyncio.sleep(0.02)

    def _on_run(self, delivery: Delivery) -> None:
        fact = delivery.message
        if isinstance(fact, Run):
            self.history.setdefault(fact.run, []).append(fact)
            self.facts[fact.run] = fact
        else:
            self.facts.pop(delivery.levels["run"], None)

    def _on_state(self, delivery: Delivery) -> None:
        if isinstance(delivery.message, RunnerState):
            self.state = delivery.message

    def _on_catalogue(self, delivery: Delivery) -> None:
        if isinstance(delivery.message, Catalogue):
            self.catalogue = delivery.message


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text[text.rindex(")") + 2] not in "ZX"
