"""`gleaner status --watch`: the fleet each second, also where its broker goes and comes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

from gleaner.cli.connect import connected
from gleaner.cli.settings import Settings
from gleaner.cli.status import heard
from gleaner.fleet import Fleet, FleetView, follow
from gleaner.runtime import Fatal

LOOK_SECONDS = 1.0


class _Line:
    """What was heard of the fleet, over one connection after the other.

    Each looks anew for the broker: `gleaner up` gives new passwords at every start.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.fleet: Fleet | None = None
        self.lost_at: datetime | None = None
        self.news = asyncio.Event()

    async def keep(self) -> None:
        """Listen until cancelled; raise Fatal if there was no broker to begin with."""
        while True:
            try:
                await self._listen()
            except Fatal:
                if self.fleet is None:
                    raise
            await asyncio.sleep(LOOK_SECONDS)

    async def _listen(self) -> None:
        async with connected(self._settings) as client:
            fleet, gone = Fleet(), asyncio.Event()
            client.bus.on_connection(lambda is_there: None if is_there else gone.set())
            follow(client.bus, fleet)
            await heard(fleet)
            self.fleet, self.lost_at = fleet, None
            self.news.set()
            await gone.wait()
            self.lost_at = datetime.now(UTC)
            self.news.set()


async def watch(settings: Settings) -> AsyncGenerator[tuple[FleetView, float | None]]:
    """Yield the fleet each second, with how many seconds ago the broker was lost, or None."""
    line = _Line(settings)
    keeping = asyncio.create_task(line.keep(), name="broker")
    try:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(line.news.wait(), LOOK_SECONDS)
            line.news.clear()
            if keeping.done():
                keeping.result()
            if line.fleet is not None:
                now = datetime.now(UTC)
                lost = (now - line.lost_at).total_seconds() if line.lost_at else None
                yield line.fleet.snapshot(now), lost
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
