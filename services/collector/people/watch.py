"""Watch who is at the node and say it on the bus: at once on input, with each check otherwise."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from gleaner.bus.local import NodeBus
from gleaner.bus.messages import EventKind, People
from gleaner.runtime import boot_seconds
from gleaner.settings import PeopleSettings
from services.collector.interface import Notice, Notices, Terminal, Terminals
from services.collector.people import presence

HANDOVER_SECONDS = 0.05
"""Between the making of a terminal and a look at it: sshd makes it as root, then gives it away."""
PeopleBy = Literal["fanotify", "inotify", "atime", "script", "nothing"]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class PeopleWatch:
    """Looks at the terminals, hears their input, publishes `People` when something changed."""

    def __init__(
        self,
        bus: NodeBus,
        settings: PeopleSettings,
        node: str,
        terminals: Terminals,
        notices: Notices,
        *,
        now: Callable[[], datetime] = _utc_now,
        steady: Callable[[], float] = boot_seconds,
    ) -> None:
        self._bus = bus
        self._settings = settings
        self._node = node
        self._terminals = terminals
        self._notices = notices
        self._now = now
        self._steady = steady
        self._said: People | None = None
        self._seen: tuple[Terminal, ...] = ()
        self._seen_at = steady()
        self._heard: dict[str, float] = {}
        self._terminals_appear_in = settings.device_directory / "pts"
        self._watched: set[Path] = set()
        self._refused: set[Path] = set()
        self._looking = asyncio.Lock()
        self._soon: asyncio.TimerHandle | None = None
        self._extra: asyncio.Task[None] | None = None

    async def check(self) -> None:
        """Look at all terminals once."""
        async with self._looking:
            await self._look(None)

    async def _look(self, notice: Notice | None) -> None:
        if not self._settings.enabled:
            if self._said is None:
                self._say(presence.not_watched(self._node, self._now()))
            return
        try:
            seen = await self._terminals.look()
        except OSError as error:
            problem = f"{error.filename or 'terminals'}: {error.strerror or error}"
            self._say(presence.cannot_tell(self._node, problem, self._now(), self._said))
            return
        self._seen, self._seen_at = seen, self._steady()
        self._watch()
        here = {terminal.where for terminal in seen}
        self._heard = {where: at for where, at in self._heard.items() if where in here}
        self._say(self._observed(), notice)

    def hear(self, notice: Notice) -> None:
        """Take somebody's input as what it is: they are active, and those who listen hear it now.

        Called by the kernel's notice; local subscribers have run when this returns.
        """
        where = next((seen.where for seen in self._seen if seen.path == notice.path), None)
        if where is None:
            return
        self._heard[where] = self._steady()
        if self._said is not None and any(
            person.active and person.where == where for person in self._said.people
        ):
            return  # A key of somebody who is active changes nothing; keys come in thousands.
        self._say(self._observed(), notice)

    def limitations(self) -> tuple[str, ...]:
        """Return what is not seen here and what that costs, one sentence each."""
        if not self._settings.enabled:
            return ("people are not watched (node.people.enabled): nobody's return stops a run",)
        return (*self._terminals.problems(), *self._not_heard())

    @property
    def notices_people_by(self) -> PeopleBy:
        """How input is noticed, for `Inventory`."""
        if not self._settings.enabled:
            return "nothing"
        if self._notices.reads_by == "check" or (self._refused and not self._watched):
            return "atime"
        return self._notices.reads_by

    async def close(self) -> None:
        """Stop hearing and looking."""
        if self._soon is not None:
            self._soon.cancel()
        if self._extra is not None:
            self._extra.cancel()
            await asyncio.wait([self._extra])
        for path in (*self._watched, self._terminals_appear_in):
            self._notices.unwatch(path)
        self._watched.clear()
        await self._terminals.close()

    def _watch(self) -> None:
        paths = {terminal.path for terminal in self._seen if terminal.path is not None}
        for path in self._watched - paths:
            self._notices.unwatch(path)
        # Those watched already too: a terminal's number may have been used again since.
        self._watched = {path for path in paths if self._notices.watch_reads(path, self.hear)}
        self._refused = paths - self._watched
        self._notices.watch_made(self._terminals_appear_in, self._hear_of_a_new_terminal)

    def _hear_of_a_new_terminal(self, notice: Notice) -> None:
        if self._soon is None:
            loop = asyncio.get_running_loop()
            self._soon = loop.call_later(HANDOVER_SECONDS, self._look_soon, notice)

    def _look_soon(self, notice: Notice) -> None:
        self._soon = None
        if self._extra is None or self._extra.done():
            self._extra = asyncio.create_task(self._check_early(notice), name="a new terminal")

    async def _check_early(self, notice: Notice) -> None:
        async with self._looking:
            await self._look(notice)

    def _observed(self) -> People:
        steady = self._steady()
        passed = steady - self._seen_at
        aged = tuple(
            seen
            if seen.idle_seconds is None
            else replace(seen, idle_seconds=seen.idle_seconds + passed)
            for seen in self._seen
        )
        return presence.observe(
            presence.with_inputs(aged, self._heard, steady),
            node=self._node,
            settings=self._settings,
            now=self._now(),
            before=self._said,
        )

    def _say(self, fact: People, notice: Notice | None = None) -> None:
        before = self._said
        if not presence.is_news(before, fact):
            return
        if notice is not None:
            noticed = {"noticed_ns": notice.noticed_ns, "noticed_by": notice.by}
            fact = fact.model_copy(update=noticed)
        self._said = fact
        self._bus.publish(fact)
        if fact.watched and (before is None or before.active != fact.active):
            self._bus.record(EventKind.PEOPLE, {"active": fact.active, "reason": fact.reason})

    def _not_heard(self) -> tuple[str, ...]:
        if self._notices.reads_by == "check":
            return ("the kernel does not tell of input: people are noticed with the next check",)
        if not self._refused:
            return ()
        why = "" if os.geteuid() == 0 else " without root"
        which = ", ".join(sorted(str(path) for path in self._refused))
        return (f"input at {which} is not heard{why}: noticed with the next check",)
