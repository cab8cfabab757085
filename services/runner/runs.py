"""All runs of the node that have a fact: found again at the start, ended at the end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gleaner.bus.local import NodeBus
from gleaner.bus.messages import CatalogueEntry, Cause, CauseKind, EventKind, Run, RunState
from services.runner.disk import Disk
from services.runner.facts import Facts
from services.runner.journal import Journal, Remembered
from services.runner.launcher import Handle, Launcher, Report
from services.runner.leaving import Life
from services.runner.run import ManagedRun
from services.runner.timing import Timing

logger = logging.getLogger(__name__)

FINAL_MAX = 50
"""Facts of runs that are over; more are taken back although nobody recorded them yet."""
STOPPED = Cause(kind=CauseKind.SHUTDOWN, text="the runner was stopped")
_WORDS_SECONDS = 0.005
_UNKNOWN_GRACE_SECONDS = 5.0
"""For a run whose entry is no longer in the catalogue."""


class Runs:
    """The runs by id, and what is done to several of them."""

    def __init__(
        self, bus: NodeBus, launcher: Launcher, journal: Journal, disk: Disk, timing: Timing
    ) -> None:
        self._bus = bus
        self._launcher = launcher
        self._journal = journal
        self._disk = disk
        self._timing = timing
        self._by_id: dict[str, ManagedRun] = {}
        self._changed = asyncio.Event()

    @property
    def ids(self) -> tuple[str, ...]:
        """Return the ids of all runs that have a fact."""
        return tuple(self._by_id)

    def alive(self) -> dict[str, tuple[str, ...]]:
        """Return the runs that may be made to leave, with their GPUs."""
        return {name: run.fact.gpus for name, run in self._by_id.items() if run.life.is_alive}

    def taken(self) -> dict[str, str]:
        """Return GPU to run, of all that are not final."""
        return {
            gpu: name
            for name, run in self._by_id.items()
            for gpu in run.fact.gpus
            if not run.life.state.is_final
        }

    def take_up(self, fact: Run, grace_seconds: float, spec: dict[str, Any]) -> ManagedRun:
        """Manage a run from now on."""
        life = Life(grace_seconds=grace_seconds, clearing_seconds=self._timing.clearing)
        run = ManagedRun(fact, life, spec, self._journal.open(fact.run), self._publish)
        self._by_id[fact.run] = run
        return run

    def leave(self, leave: list[tuple[str, Cause]], noticed_ns: int) -> None:
        """Signal all of them, and only then say so.

        First the first process of each: whoever is woken competes with us for the processors, and
        the search for the others takes longer than all these signals. For the same reason words
        wait a little: what yields to everybody could not leave while we talk.
        """
        going = [
            run
            for run, cause in ((self._by_id[name], cause) for name, cause in leave)
            if run.decide_to_leave(cause, noticed_ns)
        ]
        for run in going:
            run.warn()
        for run in going:
            run.leave()
        if going:
            asyncio.get_running_loop().call_later(_WORDS_SECONDS, self._say, going)

    def _say(self, going: list[ManagedRun]) -> None:
        for run in going:
            run.say()
            self._disk.later(run.journal.sync)
            cause = run.life.cause
            logger.info(
                "run %s (%s) must leave: %s", run.fact.run, run.fact.entry, cause and cause.text
            )

    def on_check(self, facts: Facts, began_ns: int) -> None:
        """See `ManagedRun.on_check`."""
        for run in self._by_id.values():
            run.on_check(facts, began_ns)

    def on_time(self) -> None:
        """See `ManagedRun.on_time`."""
        for run in self._by_id.values():
            run.on_time()

    def archive(self, wished: set[str]) -> None:
        """Take back the facts of runs that are over, recorded, and no longer wished for."""
        over = [
            name
            for name, run in self._by_id.items()
            if run.life.state.is_final and name not in wished
        ]
        for name in over if self._bus.unrecorded == 0 else over[:-FINAL_MAX]:
            self._by_id.pop(name).close()
            self._bus.clear(Run, node=self._bus.node, run=name)
            self._disk.later(functools.partial(self._journal.forget, name))

    async def recover(self, entries: Mapping[str, CatalogueEntry]) -> None:
        """Take up the runs of an earlier life of this service, or say how they ended."""
        for remembered in await self._disk.do(self._journal.remembered):
            entry = entries.get(remembered.fact.entry)
            grace_seconds = entry.grace_seconds if entry else _UNKNOWN_GRACE_SECONDS
            run = self.take_up(remembered.fact, grace_seconds, remembered.spec)
            if remembered.fact.state.is_final:
                run.life = replace(run.life, state=remembered.fact.state)
                self._bus.publish(remembered.fact)
            else:
                self._recover(run, remembered, entry)

    async def end(self) -> None:
        """End every run, kindly for a while; told to end a second time, at once."""
        for run in self._by_id.values():
            run.hurry(self._timing.shutdown_grace)
        self.leave([(name, STOPPED) for name in self.alive()], time.monotonic_ns())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timing.shutdown_grace + 5):
                    while any(run.life.has_processes for run in self._by_id.values()):
                        self._changed.clear()
                        await self._changed.wait()
        finally:
            for run in self._by_id.values():
                run.kill()
        for name, run in self._by_id.items():
            if run.life.has_processes:
                logger.error("run %s cannot be ended", name)
            run.stop_clearing()

    def close(self) -> None:
        """Let go of all of them."""
        for run in self._by_id.values():
            run.close()

    def _recover(
        self, run: ManagedRun, remembered: Remembered, entry: CatalogueEntry | None
    ) -> None:
        if remembered.fact.state is not RunState.STARTING:
            run.life = replace(run.life, state=RunState.RUNNING)
        found = self._launcher.adopt(remembered.spec, run.on_report)
        if isinstance(found, Report | None):
            logger.info("run %s ended while this service was away", run.fact.run)
            # Whatever the cause was, it was known before the signal.
            run.life = replace(run.life, cause=remembered.cause)
            if found is None:
                run.lose("it ended while the runner or the machine was away")
            else:
                run.on_report(found)
        else:
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
            self.leave([(run.fact.run, cause)], time.monotonic_ns())

    def _publish(self, fact: Run, is_event: bool) -> None:
        self._changed.set()
        self._bus.publish(fact)
        if is_event:
            self._bus.record(EventKind.RUN, fact.model_dump(mode="json", exclude={"node"}))
        if is_event and fact.state.is_final:
            spec = self._by_id[fact.run].spec
            self._disk.later(functools.partial(self._launcher.forget, spec))
