"""When the next check of the GPUs is due: by the clock, or because something asks for it."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

FIRST_SECONDS = 0.25
"""The first checks follow each other in steps that grow by this: who starts at the same time as we
do, a page or a scheduler, has missed the first beat."""
URGENT_SECONDS = 0.1
"""How often is checked while a run's GPU is being cleared."""
URGENT_FOR_SECONDS = 10.0
LEAST_SECONDS = 0.02


class Due:
    """Is waited for between two checks; whoever wants one sooner says so here."""

    def __init__(self, check_seconds: float) -> None:
        self._check_seconds = check_seconds
        self._wanted = asyncio.Event()
        self._urgent_until = 0.0

    @property
    def is_wanted(self) -> bool:
        """Whether a check was asked for since the last one."""
        return self._wanted.is_set()

    @property
    def is_urgent(self) -> bool:
        """Whether checks follow each other quickly for a while."""
        return time.monotonic() < self._urgent_until

    def soon(self) -> None:
        """Ask for a check."""
        self._wanted.set()

    def be_urgent(self) -> None:
        """Have checks follow each other quickly, but not for ever."""
        self._urgent_until = time.monotonic() + URGENT_FOR_SECONDS

    def be_calm(self) -> None:
        """Have checks follow each other as usual."""
        self._urgent_until = 0.0

    async def wait(self, started: float, checks: int) -> None:
        """Return when the next check is due; the last one, of so many, began at `started`."""
        every = min(self._check_seconds, FIRST_SECONDS * checks)
        if self.is_urgent:
            every = min(every, URGENT_SECONDS)
        await asyncio.sleep(max(0.0, started + LEAST_SECONDS - time.monotonic()))
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, started + every - time.monotonic())):
                await self._wanted.wait()
        self._wanted.clear()
