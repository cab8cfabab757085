"""`gleaner events`: what happened, from the recorder's history or as it happens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any

from gleaner.bus.interface import Delivery
from gleaner.bus.messages import Event, EventKind
from gleaner.cli.connect import connected, connections, until_lost
from gleaner.cli.settings import Settings
from gleaner.tell import tell_event

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]


async def history(settings: Settings, *, limit: int, **filters: str | None) -> list[Row]:
    """Return the last events, oldest first, as the recorder has them; without the samples."""
    wanted: dict[str, Any] = {**filters}
    rows: list[Row]
    async with (
        connected(settings) as client,
        aclosing(client.history(what="events", limit=limit, **wanted)) as found,
    ):
        rows = [row async for row in found if row.get("kind") != EventKind.SAMPLES]
        return rows[::-1]


async def follow(settings: Settings, *, node: str | None, say: Callable[[Row], None]) -> None:
    """Pass on events as they happen, each once, until cancelled; brokers may come and go."""
    seen: dict[str, int] = {}

    def take(delivery: Delivery) -> None:
        event = delivery.message
        if not isinstance(event, Event) or event.sequence <= seen.get(event.stream, 0):
            return
        seen[event.stream] = event.sequence
        if event.kind != EventKind.SAMPLES:
            say(event.model_dump(mode="json"))

    levels, was_lost = {"node": node} if node else {}, False
    async with aclosing(connections(settings)) as clients:
        async for client in clients:
            if was_lost:
                logger.warning("the broker is back")
            client.bus.subscribe(Event, take, **levels)
            await until_lost(client)
            was_lost = True
            logger.warning("the broker is lost; `gleaner events` shows what happens meanwhile")


def describe(row: Row) -> str:
    """Return one event as a line: when, where, what."""
    at = str(row.get("at", ""))[:19].replace("T", " ")
    data = row.get("data")
    what = tell_event(str(row.get("kind", "")), data if isinstance(data, Mapping) else {})
    return f"{at}  {row.get('node', '?')}  {what}"
