"""The fleet as time goes on, also where its broker goes, and comes back with another password."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime

from gleaner.bus.interface import Bus
from gleaner.cli.connect import connections, until_lost
from gleaner.cli.now.status import heard
from gleaner.cli.settings import Settings
from gleaner.client import Client
from gleaner.fleet import Fleet, FleetView, follow

LOOK_SECONDS = 1.0


class Line:
    """What is heard of the fleet, over one connection after the other."""

    def __init__(self, bus: Bus, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self.has_news = True
        """For whoever shows it to take back."""
        self.lost_at: datetime | None = None
        """When the broker was lost; None while it is there."""
        self.fleet = self._follow(bus)

    def now(self) -> FleetView:
        """Return the fleet at this moment, or as it was heard last."""
        return self.fleet.snapshot(self._clock())

    def lost_seconds(self) -> float | None:
        """Return for how long nothing was heard because the broker is lost; None: it is there."""
        return None if self.lost_at is None else (self._clock() - self.lost_at).total_seconds()

    async def go_on(self, bus: Bus) -> None:
        """Listen to another connection, once it has told what there is."""
        fleet = self._follow(bus)
        await heard(fleet)
        self.fleet = fleet
        self._on_connection(is_there=True)

    def _follow(self, bus: Bus) -> Fleet:
        fleet = Fleet()
        follow(bus, fleet, self._on_change, self._clock)
        bus.on_connection(self._on_connection)
        return fleet

    def _on_change(self, _: set[str]) -> None:
        self.has_news = True

    def _on_connection(self, is_there: bool) -> None:
        self.lost_at = None if is_there else self._clock()
        self.has_news = True


@asynccontextmanager
async def listening(settings: Settings) -> AsyncIterator[Line]:
    """Listen, to another broker where one is lost; raise Fatal if there is none to begin with."""
    async with aclosing(connections(settings)) as clients:
        client = await anext(clients)
        line = Line(client.bus)
        keeping = asyncio.create_task(_keep(line, client, clients), name="broker")
        try:
            yield line
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])


async def _keep(line: Line, client: Client, others: AsyncIterator[Client]) -> None:
    await until_lost(client)
    async for another in others:
        await line.go_on(another.bus)
        await until_lost(another)


async def watch(settings: Settings) -> AsyncGenerator[tuple[FleetView, float | None]]:
    """Yield the fleet each second, with how many seconds ago the broker was lost, or None."""
    async with listening(settings) as line:
        await heard(line.fleet)
        while True:
            yield line.now(), line.lost_seconds()
            await asyncio.sleep(LOOK_SECONDS)
