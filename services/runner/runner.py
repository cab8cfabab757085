"""The shell of the runner: hears facts and wishes, lets the pure modules decide, and does it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import logging
import os
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from gleaner.bus.interface import Delivery
from gleaner.bus.local import NodeBus
from gleaner.bus.messages import (
    Beat,
    BeatBody,
    Catalogue,
    CatalogueEntry,
    Cause,
    CauseKind,
    Desired,
    DesiredBody,
    EventKind,
    GpuInventory,
    GpuState,
    Grant,
    Inventory,
    People,
    Run,
    RunnerState,
    RunState,
    SchedulerBeat,
)
from gleaner.bus.signature import SignatureRefused, Verifier
from services.runner import catalogue, obey, pause, reflex
from services.runner.beat import BeatFile
from services.runner.environment import environment
from services.runner.facts import Facts, with_gpu, without_gpu
from services.runner.journal import Journal, Remembered
from services.runner.launcher import Handle, Launcher, Order, Report
from services.runner.leaving import Life
from services.runner.obey import Allegiance, Place
from services.runner.run import ManagedRun
from services.runner.settings import RunnerSettings
from services.runner.supervisor import boot_seconds
from services.runner.timing import Timing

logger = logging.getLogger(__name__)

FINAL_MAX = 50
"""Facts of runs that are over; more are taken back although nobody recorded them yet."""
_REFUSALS = 10
_NOTICED_BEFORE_NS = 60_000_000_000

_STOPPED = Cause(kind=CauseKind.SHUTDOWN, text="the runner was stopped")

T = TypeVar("T")


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
        self._bus = bus
        self._settings = settings
        self._launcher = launcher
        self._verifier = verifier
        self._timing = timing
        self._apart = apart
        directory = settings.node.data_directory / "node"
        self._journal = Journal(directory)
        self._beat = BeatFile(directory / "beat")
        self._pause_file = pause.pause_file(settings.node)
        self._workloads = {entry.name: entry for entry in settings.workload}
        self._entries: dict[str, CatalogueEntry] = {}
        self._facts = Facts(listening_since=boot_seconds())
        self._allegiance = Allegiance()
        self._runs: dict[str, ManagedRun] = {}
        self._preparing: dict[str, tuple[str, ...]] = {}
        self._refused: dict[str, str] = {}
        self._obstacle: tuple[float, str] | None = None
        self._said: RunnerState | None = None
        self._is_ending = False
        self._something_changed = asyncio.Event()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="runner-disk")
        self._beating: asyncio.Future[None] | None = None
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Work until cancelled; then end every run, and only then return."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                try:
                    await self._begin()
                    await self._tick_for_ever()
                finally:
                    await self._end()
        finally:
            for run in self._runs.values():
                run.close()
            self._disk.shutdown()
            self._beat.close()

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
            self._react(None)

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
            for run in self._runs.values():
                run.on_check(self._facts, began_ns)
            self._make_it_so()

    def _on_desired(self, delivery: Delivery) -> None:
        wish = delivery.message
        if not isinstance(wish, Desired):
            return
        try:
            body = self._verifier.verify(DesiredBody, wish.body, wish.key, wish.signature)
        except SignatureRefused as refused:
            self._refuse("desired", str(refused))
        else:
            known = self._allegiance
            self._allegiance, why = obey.take_desired(known, body, self._bus.node)
            self._refuse("desired", why)
            if (body.term, body.generation) != (known.term, known.generation) and why is None:
                self._later(functools.partial(self._journal.save, body.term, body.generation))
        self._make_it_so()

    def _on_scheduler_beat(self, delivery: Delivery) -> None:
        beat = delivery.message
        if not isinstance(beat, SchedulerBeat) or delivery.retained:
            return
        try:
            body = self._verifier.verify(BeatBody, beat.body, beat.key, beat.signature)
        except SignatureRefused as refused:
            self._refuse("scheduler beat", str(refused))
        else:
            self._allegiance, why = obey.take_beat(self._allegiance, body, boot_seconds())
            self._refuse("scheduler beat", why)
        self._make_it_so()

    def _on_connection(self, connected: bool) -> None:
        if not connected:
            self._allegiance = obey.disconnected(self._allegiance)
            self._say_state()

    # The reflex.

    def _react(self, noticed_ns: int | None) -> None:
        """Make those leave who must; nothing before the signal waits for anybody."""
        now_ns = time.monotonic_ns()
        if noticed_ns is None or not 0 <= now_ns - noticed_ns < _NOTICED_BEFORE_NS:
            noticed_ns = now_ns
        alive = {name: run.fact.gpus for name, run in self._runs.items() if run.life.is_alive}
        if not alive:
            return
        leave = reflex.decide(self._facts, alive, boot_seconds(), self._timing)
        self._leave([(self._runs[name], cause) for name, cause in leave], noticed_ns)

    def _leave(self, leave: list[tuple[ManagedRun, Cause]], noticed_ns: int) -> None:
        """Signal all of them, and only then say so."""
        for run, cause in leave:
            run.leave(cause, noticed_ns)
        for run, cause in leave:
            run.say()
            self._later(run.journal.sync)
            logger.info("run %s (%s) must leave: %s", run.fact.run, run.fact.entry, cause.text)

    # What is wished for.

    def _make_it_so(self) -> None:
        """Stop what is no longer wished for, start what is; deciding twice does nothing new."""
        desired = self._allegiance.desired
        if desired is not None and not self._is_ending:
            wished = {grant.run: grant for grant in desired.runs}
            cause = Cause(kind=CauseKind.NOT_DESIRED, text="the scheduler no longer wants it")
            unwanted = [
                (run, cause)
                for name, run in self._runs.items()
                if run.life.is_alive and name not in wished
            ]
            self._leave(unwanted, time.monotonic_ns())
            for gone in self._refused.keys() - wished.keys() - {"desired", "scheduler beat"}:
                del self._refused[gone]
            for grant in desired.runs:
                if grant.run not in self._runs and grant.run not in self._preparing:
                    self._consider(grant)
        self._say_state()

    def _consider(self, grant: Grant) -> None:
        assert self._tasks is not None
        why = obey.refuse(grant, self._place(), boot_seconds(), self._timing)
        self._refuse(grant.run, why)
        if why is None:
            self._preparing[grant.run] = grant.gpus
            self._tasks.create_task(self._launch(grant), name=f"launch {grant.run}")

    def _place(self) -> Place:
        taken = {gpu: name for name, gpus in self._preparing.items() for gpu in gpus}
        for name, run in self._runs.items():
            if not run.life.state.is_final:
                taken |= dict.fromkeys(run.fact.gpus, name)
        return Place(
            facts=self._facts,
            allegiance=self._allegiance,
            entries=self._entries,
            seen=set(self._journal.seen),
            taken=taken,
            obstacle=self._obstacle[1] if self._obstacle and self._is_obstructed() else None,
        )

    def _refuse(self, what: str, why: str | None) -> None:
        if why is None:
            self._refused.pop(what, None)
        elif self._refused.get(what) != why:
            self._refused[what] = why
            logger.info("refused %s: %s", what, why)

    async def _launch(self, grant: Grant) -> None:
        """Journal a run, tell everybody, and let it start: in this order."""
        assert self._facts.inventory is not None
        known = {gpu.gpu: gpu for gpu in self._facts.inventory.gpus}
        gpus = tuple(known[gpu] for gpu in grant.gpus)
        try:
            prepare = functools.partial(self._prepare, grant, gpus)
            fact, spec = await self._on_disk(prepare)
        except OSError as error:
            self._meet_obstacle(error)
            return
        except KeyError as error:
            self._refuse(grant.run, f"entry {grant.entry}: {error.args[0]}")
            return
        finally:
            del self._preparing[grant.run]
        grace_seconds = self._workloads[grant.entry].grace_seconds
        run = self._manage(fact, self._life(grace_seconds), spec)
        if self._is_ending:
            self._leave([(run, _STOPPED)], time.monotonic_ns())
        self._react(None)
        if run.life.is_alive:
            try:
                run.attach(self._launcher.start(spec, run.on_report))
            except OSError as error:
                problem = f"its supervisor cannot be started: {error.strerror}"
                run.on_report(Report(state="ended", problem=problem))
                return
            run.announce(is_event=True)
            if self._apart and self._bus.connected:
                # The collector must know the run before it sees its processes.
                await self._bus.deliver(run.fact)
            self._make_it_so()
            run.go()
            logger.info("run %s (%s) starts: %s", grant.run, grant.entry, grant.reason)

    def _prepare(self, grant: Grant, gpus: tuple[GpuInventory, ...]) -> tuple[Run, dict[str, Any]]:
        """Write down what is to be started; in the disk's thread."""
        entry = self._workloads[grant.entry]
        account, token = catalogue.account_of(entry), secrets.token_hex(16)
        order = Order(
            run=grant.run,
            entry=entry,
            environment=environment(
                os.environ,
                entry.environment,
                account=account,
                run=grant.run,
                token=token,
                gpus=gpus,
            ),
            account=account,
            directory=self._journal.folder(grant.run),
        )
        # Supervisors read it; without it they would wait as long as if the agent had hung.
        self._beat.write()
        spec, not_set = self._launcher.prepare(order)
        fact = Run(
            node=self._bus.node,
            run=grant.run,
            entry=grant.entry,
            digest=grant.digest,
            gpus=grant.gpus,
            state=RunState.STARTING,
            reason="starting",
            term=self._allegiance.term or 0,
            token_digest=hashlib.sha256(token.encode()).hexdigest(),
            user=catalogue.user_of(entry),
            limits_not_set=not_set,
            simulated=self._launcher.simulated,
            at=datetime.now(UTC),
        )
        self._journal.begin(fact, spec)
        self._journal.save(self._allegiance.term, self._allegiance.generation, grant.run)
        return fact, spec

    def _manage(self, fact: Run, life: Life, spec: dict[str, Any]) -> ManagedRun:
        journal = self._journal.open(fact.run)
        run = ManagedRun(fact, life, spec, journal, self._publish)
        self._runs[fact.run] = run
        return run

    def _life(self, grace_seconds: float) -> Life:
        return Life(grace_seconds=grace_seconds, clearing_seconds=self._timing.clearing)

    def _publish(self, fact: Run, is_event: bool) -> None:
        self._something_changed.set()
        self._bus.publish(fact)
        if is_event:
            self._bus.record(EventKind.RUN, fact.model_dump(mode="json", exclude={"node"}))
        if is_event and fact.state.is_final:
            self._later(functools.partial(self._launcher.forget, self._runs[fact.run].spec))
        self._say_state()

    def _is_obstructed(self) -> bool:
        return self._obstacle is not None and boot_seconds() < self._obstacle[0]

    def _meet_obstacle(self, error: OSError) -> None:
        place = error.filename or self._settings.node.data_directory
        text = f"nothing can be started: {place}: {error.strerror}"
        logger.error("%s", text)
        self._obstacle = (boot_seconds() + self._timing.retry, text)
        self._make_it_so()

    # The beginning, the passing of time, and the end.

    async def _begin(self) -> None:
        pause.make_room(self._pause_file)
        await self._on_disk(self._journal.load)
        self._allegiance = Allegiance(term=self._journal.term, generation=self._journal.generation)
        await self._check_catalogue()
        for remembered in await self._on_disk(self._journal.remembered):
            self._recover(remembered)
        self._say_state()
        self._facts = replace(self._facts, listening_since=boot_seconds())
        self._subscribe()

    def _recover(self, remembered: Remembered) -> None:
        """Take up a run of an earlier life of this service: adopt it, or say how it ended."""
        fact, entry = remembered.fact, self._entries.get(remembered.fact.entry)
        life = self._life(entry.grace_seconds if entry else 5)
        if fact.state.is_final:
            self._manage(fact, replace(life, state=fact.state), remembered.spec)
            self._bus.publish(fact)
            return
        state = RunState.STARTING if fact.state is RunState.STARTING else RunState.RUNNING
        run = self._manage(fact, replace(life, state=state), remembered.spec)
        found = self._launcher.adopt(remembered.spec, run.on_report)
        if found is None or isinstance(found, Report):
            # Whatever the cause was, it was known before the signal.
            run.life = replace(run.life, cause=remembered.cause)
            logger.info("run %s ended while this service was away", fact.run)
            if found is None:
                run.lose("it ended while the runner or the machine was away")
            else:
                run.on_report(found)
            return
        self._adopt(run, found, remembered.cause, entry)

    def _adopt(
        self, run: ManagedRun, handle: Handle, cause: Cause | None, entry: CatalogueEntry | None
    ) -> None:
        run.attach(handle)
        run.announce(is_event=False)
        logger.info("run %s (%s) goes on: it is adopted", run.fact.run, run.fact.entry)
        if entry is None or entry.digest != run.fact.digest:
            text = f"entry {run.fact.entry} was changed or removed"
            cause = cause or Cause(kind=CauseKind.CATALOGUE, text=text)
        if cause is not None:
            self._leave([(run, cause)], time.monotonic_ns())

    async def _tick_for_ever(self) -> None:
        checked_at = boot_seconds()
        while True:
            self._tick()
            if boot_seconds() - checked_at >= self._timing.catalogue:
                checked_at = boot_seconds()
                await self._check_catalogue()
            await asyncio.sleep(self._timing.tick)

    def _tick(self) -> None:
        self._facts = replace(self._facts, paused=pause.paused_by(self._pause_file))
        self._react(None)
        for run in self._runs.values():
            run.on_time()
        self._write_beat()
        self._archive()
        self._make_it_so()

    def _write_beat(self) -> None:
        """Say that the reflex works; a disk that hangs must not hang the reflex."""
        if self._beating is not None and not self._beating.done():
            return
        error = self._beating.exception() if self._beating is not None else None
        if isinstance(error, OSError) and not self._is_obstructed():
            self._meet_obstacle(error)
        write = functools.partial(self._beat.write, boot_seconds())
        self._beating = asyncio.get_running_loop().run_in_executor(self._disk, write)

    def _archive(self) -> None:
        """Take back the facts of runs that are over, recorded, and no longer wished for."""
        desired = self._allegiance.desired
        if desired is None:
            return
        wished = {grant.run for grant in desired.runs}
        over = [
            run
            for run in self._runs.values()
            if run.life.state.is_final and run.fact.run not in wished
        ]
        for run in over if self._bus.unrecorded == 0 else over[:-FINAL_MAX]:
            del self._runs[run.fact.run]
            run.close()
            self._bus.clear(Run, node=self._bus.node, run=run.fact.run)
            self._later(functools.partial(self._journal.forget, run.fact.run))

    async def _end(self) -> None:
        """End every run, kindly for a while; told to end a second time, at once."""
        self._is_ending = True
        for run in self._runs.values():
            run.hurry(self._timing.shutdown_grace)
        alive = [run for run in self._runs.values() if run.life.is_alive]
        self._leave([(run, _STOPPED) for run in alive], time.monotonic_ns())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timing.shutdown_grace + 5):
                    while any(run.life.has_processes for run in self._runs.values()):
                        self._something_changed.clear()
                        await self._something_changed.wait()
        finally:
            for run in self._runs.values():
                run.kill()
        for run in self._runs.values():
            if run.life.has_processes:
                logger.error("run %s cannot be ended", run.fact.run)
            run.stop_clearing()

    async def _check_catalogue(self) -> None:
        path = type(self._settings).path
        check = functools.partial(catalogue.check, self._settings.workload, path, os.environ)
        # Not in the disk's thread: users and folders may come over a network that hangs.
        entries = await asyncio.to_thread(check)
        if self._entries and entries == tuple(self._entries.values()):
            return
        for entry in entries:
            for problem in entry.problems:
                logger.warning("workload %s cannot run: %s", entry.name, problem)
        self._entries = {entry.name: entry for entry in entries}
        self._bus.publish(Catalogue(node=self._bus.node, entries=entries, at=datetime.now(UTC)))

    def _say_state(self) -> None:
        """Publish whom we obey and what we live by, if that has changed."""
        now = boot_seconds()
        refusals = [f"{what}: {why}" for what, why in self._refused.items()]
        limitations = self._launcher.limitations
        if not self._settings.node.scheduler_keys:
            limitations += ("node.scheduler_keys is empty, so nothing is launched here",)
        if self._obstacle is not None and self._is_obstructed():
            limitations += (self._obstacle[1],)
        state = RunnerState(
            node=self._bus.node,
            paused=self._facts.paused is not None,
            paused_reason=self._facts.paused,
            watched=self._facts.is_watched(now, self._timing.beat),
            term=self._allegiance.term,
            generation=self._allegiance.generation,
            lease=obey.lease(self._allegiance, now, self._timing),
            runs=tuple(self._runs),
            refusals=tuple(refusals[-_REFUSALS:]),
            limitations=limitations,
            at=self._said.at if self._said else datetime.now(UTC),
        )
        if state != self._said:
            self._said = state.model_copy(update={"at": datetime.now(UTC)})
            self._bus.publish(self._said)

    def _later(self, work: Callable[[], None]) -> None:
        self._disk.submit(work)

    async def _on_disk(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)


def make_directory(directory: Path) -> None:
    """Make the runner's part of the data directory, private to who runs us."""
    (directory / "node" / "runs").mkdir(parents=True, exist_ok=True)
    (directory / "node" / "runs").chmod(0o700)
