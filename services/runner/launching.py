"""From a grant to a workload: journal first, then the fact, then the supervisor, then go."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from gleaner.bus.local import NodeBus
from gleaner.bus.messages import GpuInventory, Grant, Run, RunState
from services.runner import catalogue
from services.runner.disk import Disk
from services.runner.environment import environment
from services.runner.journal import Journal
from services.runner.launcher import Launcher, Order, Report
from services.runner.obey import Allegiance
from services.runner.run import ManagedRun
from services.runner.runs import Runs
from services.runner.settings import RunnerSettings

logger = logging.getLogger(__name__)


class Launching:
    """Starts what was granted; a run id is written down, durably, before anything runs."""

    def __init__(
        self,
        bus: NodeBus,
        settings: RunnerSettings,
        launcher: Launcher,
        journal: Journal,
        runs: Runs,
        disk: Disk,
        *,
        apart: bool,
    ) -> None:
        self._bus = bus
        self._launcher = launcher
        self._journal = journal
        self._runs = runs
        self._disk = disk
        self._apart = apart
        self._workloads = {entry.name: entry for entry in settings.workload}
        self.preparing: dict[str, tuple[str, ...]] = {}
        """Runs that are being written down, with their GPUs, which are taken already."""

    async def carry_out(
        self,
        grant: Grant,
        gpus: tuple[GpuInventory, ...],
        allegiance: Allegiance,
        settle: Callable[[ManagedRun], None],
    ) -> None:
        """Start a run; OSError or KeyError, and nothing was started, if it cannot be prepared.

        `settle` is called when it can no longer be overlooked, for what happened in between.
        """
        prepare = functools.partial(self._prepare, grant, gpus, allegiance)
        try:
            fact, spec = await self._disk.do(prepare)
            run = self._runs.take_up(fact, self._workloads[grant.entry].grace_seconds, spec)
        finally:
            del self.preparing[grant.run]
        settle(run)
        if not run.life.is_alive:
            return
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
        settle(run)
        run.go()
        logger.info("run %s (%s) starts: %s", grant.run, grant.entry, grant.reason)

    def _prepare(
        self, grant: Grant, gpus: tuple[GpuInventory, ...], allegiance: Allegiance
    ) -> tuple[Run, dict[str, Any]]:
        """Write down what is to be started; in the journal's thread."""
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
        spec, not_set = self._launcher.prepare(order)
        fact = Run(
            node=self._bus.node,
            run=grant.run,
            entry=grant.entry,
            digest=grant.digest,
            gpus=grant.gpus,
            state=RunState.STARTING,
            reason="starting",
            term=allegiance.term or 0,
            token_digest=hashlib.sha256(token.encode()).hexdigest(),
            user=catalogue.user_of(entry),
            limits_not_set=not_set,
            simulated=self._launcher.simulated,
            at=datetime.now(UTC),
        )
        try:
            self._journal.begin(fact, spec)
            self._journal.save(allegiance.term, allegiance.generation, grant.run)
        except OSError:
            self._launcher.forget(spec)
            self._journal.forget(grant.run)
            raise
        return fact, spec
