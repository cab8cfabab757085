"""The shell of the runner: hears facts and wishes, lets the pure modules decide, and does it."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
from dataclasses import replace
from datetime import UTC, datetime

from gleaner.bus.interface import Delivery
from gleaner.bus.local import NodeBus
from gleaner.bus.messages import (
    Beat,
    Catalogue,
    CatalogueEntry,
    Cause,
    CauseKind,
    Desired,
    GpuState,
    Grant,
    Inventory,
    People,
    RunnerState,
    SchedulerBeat,
)
from gleaner.bus.signature import Verifier
from gleaner.runtime import boot_seconds
from services.runner import catalogue, obey, pause, reflex
from services.runner.beat import BeatFile
from services.runner.disk import Disk
from services.runner.facts import Facts, with_gpu, without_gpu
from services.runner.journal import Journal
from services.runner.launcher import Launcher
from services.runner.launching import Launching
from services.runner.obey import Allegiance, Place
from services.runner.run import ManagedRun
from services.runner.runs import STOPPED, Runs
from services.runner.settings import RunnerSettings
from services.runner.timing import Timing
from services.runner.wishes import Wishes

logger = logging.getLogger(__name__)

_NOTICED_BEFORE_NS = 60_000_000_000
_NOT_DESIRED = "the scheduler no longer wants it"


class Runner:
    """Makes the node's processes match what is wished for, and gets out of people's way."""

    def __init__(
        self,
        bus: NodeBus,
        settings: RunnerSettings,
        launcher: Launcher,
        verifier: Verifier,
        timing: Timing,
        *,
        apart: bool,
    ) -> None:
        directory = settings.node.data_directory.absolute() / "node"
        self._bus = bus
        self._settings = settings
        self._launcher = launcher
        self._timing = timing
        self._pause_file = pause.pause_file(settings.node)
        self._disk = Disk(BeatFile(directory / "beat"))
        self._journal = Journal(directory)
        self._runs = Runs(bus, launcher, self._journal, self._disk, timing)
        self._launching = Launching(
            bus, settings, launcher, self._journal, self._runs, self._disk, apart=apart
        )
        self._entries: dict[str, CatalogueEntry] = {}
        self._facts = Facts(listening_since=boot_seconds())
        self._wishes = Wishes(bus.node, verifier)
        self._obstacle: tuple[float, str] | None = None
        self._said: RunnerState | None = None
        self._started_at = datetime.now(UTC)
        self._is_ending = False
        self._tasks = asyncio.TaskGroup()

    async def run(self) -> None:
        """Work until cancelled; then end every run, and only then return."""
        try:
            async with self._tasks:
                try:
                    await self._begin()
                    await self._tick_for_ever()
                finally:
                    self._is_ending = True
                    await self._runs.end()
        finally:
            self._runs.close()
            self._disk.close()

    # What is heard.

    def _subscribe(self) -> None:
        node, hear = self._bus.node, self._bus.subscribe
        hear(Inventory, self._on_inventory, node=node)
        hear(GpuState, self._on_gpu, node=node)
        hear(People, self._on_people, node=node)
        hear(Beat, self._on_beat, node=node)
        hear(Desired, self._on_desired, node=node)
        hear(SchedulerBeat, self._on_scheduler_beat)
        self._bus.on_connection(self._on_connection)

    def _on_inventory(self, delivery: Delivery) -> None:
        if isinstance(delivery.message, Inventory):
            self._facts = replace(self._facts, inventory=delivery.message)
            self._react()

    def _on_gpu(self, delivery: Delivery) -> None:
        state = delivery.message
        if isinstance(state, GpuState):
            self._facts = with_gpu(self._facts, state, boot_seconds())
            self._react(state.noticed_ns)
        elif state is None:
            self._facts = without_gpu(self._facts, delivery.levels["gpu"], boot_seconds())

    def _on_people(self, delivery: Delivery) -> None:
        if isinstance(delivery.message, People):
            self._facts = replace(self._facts, people=delivery.message)
            self._react(delivery.message.noticed_ns)

    def _on_beat(self, delivery: Delivery) -> None:
        beat = delivery.message
        if isinstance(beat, Beat) and not delivery.retained:
            self._facts = replace(self._facts, beat_at=boot_seconds())
            began_ns = time.monotonic_ns() - int(beat.check_seconds * 1e9)
            self._runs.on_check(self._facts, began_ns)
            self._make_it_so()

    def _on_desired(self, delivery: Delivery) -> None:
        if not isinstance(delivery.message, Desired):
            return
        if self._wishes.hear_wish(delivery.message):
            obeyed = self._wishes.allegiance
            self._disk.later(functools.partial(self._journal.save, obeyed.term, obeyed.generation))
        self._make_it_so()

    def _on_scheduler_beat(self, delivery: Delivery) -> None:
        if isinstance(delivery.message, SchedulerBeat) and not delivery.retained:
            self._wishes.hear_beat(delivery.message)
            self._make_it_so()

    def _on_connection(self, connected: bool) -> None:
        if not connected:
            self._wishes.disconnect()
            self._say_state()

    # The reflex.

    def _react(self, noticed_ns: int | None = None) -> None:
        """Make those leave who must; nothing before the signal waits for anybody."""
        now_ns = time.monotonic_ns()
        if noticed_ns is None or not 0 <= now_ns - noticed_ns < _NOTICED_BEFORE_NS:
            noticed_ns = now_ns
        alive = self._runs.alive()
        if alive:
            leave = reflex.decide(self._facts, alive, boot_seconds(), self._timing)
            self._runs.leave(leave, noticed_ns)

    # What is wished for.

    def _make_it_so(self) -> None:
        """Stop what is no longer wished for, start what is; deciding twice does nothing new."""
        desired = self._wishes.allegiance.desired
        if desired is not None and not self._is_ending:
            wished = {grant.run for grant in desired.runs}
            why = desired.withdrawn
            unwanted = [
                (run, Cause(kind=CauseKind.NOT_DESIRED, text=why.get(run, _NOT_DESIRED)))
                for run in self._runs.alive()
                if run not in wished
            ]
            self._runs.leave(unwanted, time.monotonic_ns())
            self._wishes.forget_refusals(wished)
            for grant in desired.runs:
                if grant.run not in (*self._runs.ids, *self._launching.preparing):
                    self._consider(grant)
        self._say_state()

    def _consider(self, grant: Grant) -> None:
        why = obey.refuse(grant, self._place(), boot_seconds(), self._timing)
        self._wishes.refuse(grant.run, why)
        if why is None:
            self._launching.preparing[grant.run] = grant.gpus
            self._tasks.create_task(self._launch(grant), name=f"launch {grant.run}")

    def _place(self) -> Place:
        preparing = self._launching.preparing.items()
        return Place(
            facts=self._facts,
            allegiance=self._wishes.allegiance,
            entries=self._entries,
            seen=set(self._journal.seen),
            taken={**self._runs.taken(), **{gpu: run for run, gpus in preparing for gpu in gpus}},
            obstacle=self._current_obstacle(),
        )

    async def _launch(self, grant: Grant) -> None:
        assert self._facts.inventory is not None
        known = {gpu.gpu: gpu for gpu in self._facts.inventory.gpus}
        gpus = tuple(known[gpu] for gpu in grant.gpus)
        try:
            await self._launching.carry_out(grant, gpus, self._wishes.allegiance, self._settle)
        except OSError as error:
            self._meet_obstacle(error)
        except KeyError as error:
            self._wishes.refuse(grant.run, f"entry {grant.entry}: {error.args[0]}")

    def _settle(self, run: ManagedRun) -> None:
        """Look once more before a run starts: the world went on while it was written down."""
        if self._is_ending and run.life.is_alive:
            self._runs.leave([(run.fact.run, STOPPED)], time.monotonic_ns())
        self._react()
        self._make_it_so()

    def _meet_obstacle(self, error: OSError) -> None:
        """Start nothing for a while: what cannot be written down must not run."""
        place = error.filename or self._settings.node.data_directory
        text = f"nothing can be started: {place}: {error.strerror}"
        if self._current_obstacle() is None:
            logger.error("%s", text)
        self._obstacle = (boot_seconds() + self._timing.retry, text)
        self._make_it_so()

    def _current_obstacle(self) -> str | None:
        if self._obstacle is None or boot_seconds() >= self._obstacle[0]:
            return None
        return self._obstacle[1]

    # The beginning, and the passing of time.

    async def _begin(self) -> None:
        pause.make_room(self._settings.node)
        self._facts = replace(self._facts, paused=pause.paused_by(self._pause_file))
        await self._disk.do(self._journal.load)
        obeyed = Allegiance(term=self._journal.term, generation=self._journal.generation)
        self._wishes.allegiance = obeyed
        try:
            await self._disk.first_beat(boot_seconds())
        except OSError as error:
            self._meet_obstacle(error)
        await self._check_catalogue()
        await self._runs.recover(self._entries)
        self._facts = replace(self._facts, listening_since=boot_seconds())
        self._say_state()
        self._subscribe()

    async def _tick_for_ever(self) -> None:
        checked_at = boot_seconds()
        while True:
            self._tick()
            if boot_seconds() - checked_at >= self._timing.catalogue:
                checked_at = boot_seconds()
                self._tasks.create_task(self._check_catalogue(), name="catalogue")
            await asyncio.sleep(self._timing.tick)

    def _tick(self) -> None:
        self._facts = replace(self._facts, paused=pause.paused_by(self._pause_file))
        self._react()
        self._runs.on_time()
        error = self._disk.beat(boot_seconds())
        if error is not None:
            self._meet_obstacle(error)
        if self._wishes.allegiance.desired is not None:
            self._runs.archive({grant.run for grant in self._wishes.allegiance.desired.runs})
        self._make_it_so()

    async def _check_catalogue(self) -> None:
        path = type(self._settings).path
        check = functools.partial(catalogue.check, self._settings.workload, path, os.environ)
        # In a thread of its own: users and folders may come over a network that hangs.
        entries = await asyncio.to_thread(check)
        if self._entries and entries == tuple(self._entries.values()):
            return
        for entry in entries:
            for problem in entry.problems:
                logger.warning("workload %s cannot run: %s", entry.name, problem)
        self._entries = {entry.name: entry for entry in entries}
        self._bus.publish(Catalogue(node=self._bus.node, entries=entries, at=datetime.now(UTC)))

    # What is said.

    def _say_state(self) -> None:
        """Publish whom we obey and what we live by, if that has changed."""
        now = boot_seconds()
        state = RunnerState(
            node=self._bus.node,
            paused=self._facts.paused is not None,
            paused_reason=self._facts.paused,
            watched=self._facts.is_watched(now, self._timing.beat),
            term=self._wishes.allegiance.term,
            generation=self._wishes.allegiance.generation,
            lease=obey.lease(self._wishes.allegiance, now, self._timing),
            runs=self._runs.ids,
            refusals=self._wishes.refusals,
            limitations=self._limitations(),
            started_at=self._started_at,
            at=self._said.at if self._said else datetime.now(UTC),
        )
        if state != self._said:
            self._said = state.model_copy(update={"at": datetime.now(UTC)})
            self._bus.publish(self._said)

    def _limitations(self) -> tuple[str, ...]:
        found = [*self._launcher.limitations]
        if not self._settings.node.scheduler_keys:
            found.append("node.scheduler_keys is empty, so nothing is launched here")
        obstacle = self._current_obstacle()
        return (*found, obstacle) if obstacle else tuple(found)
