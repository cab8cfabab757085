"""`gleaner events`: what happened, from the recorder's history or as it happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Any

from gleaner.bus.interface import Delivery
from gleaner.bus.messages import Event, EventKind
from gleaner.cli.connect import connected
from gleaner.cli.settings import Settings

Row = Mapping[str, Any]


async def history(settings: Settings, *, node: str | None, limit: int) -> list[Row]:
    """Return the last events, oldest first, as the recorder has them; without the samples."""
    rows: list[Row] = []
    async with (
        connected(settings) as client,
        aclosing(client.history(what="events", node=node)) as found,
    ):
        async for row in found:
            if row.get("kind") != EventKind.SAMPLES:
                rows.append(row)
            if len(rows) == limit:
                break
    return rows[::-1]


async def follow(settings: Settings, *, node: str | None, say: Callable[[Row], None]) -> None:
    """Pass on events as they happen, each once, until cancelled."""
    seen: dict[str, int] = {}

    def take(delivery: Delivery) -> None:
        event = delivery.message
        if not isinstance(event, Event) or event.sequence <= seen.get(event.stream, 0):
            return
        seen[event.stream] = event.sequence
        if event.kind != EventKind.SAMPLES:
            say(event.model_dump(mode="json"))

    levels = {"node": node} if node else {}
    async with connected(settings) as client:
        client.bus.subscribe(Event, take, **levels)
        await asyncio.Event().wait()


def describe(row: Row) -> str:
    """Return one event as a line: when, where, what."""
    at = str(row.get("at", ""))[:19].replace("T", " ")
    data = row.get("data")
    what = _what(str(row.get("kind", "")), data if isinstance(data, Mapping) else {})
    return f"{at}  {row.get('node', '?')}  {what}"


def _what(kind: str, data: Row) -> str:
    match kind:
        case EventKind.NODE_STARTED:
            return f"node started, version {data.get('version')}, source {data.get('source')}"
        case EventKind.GPU:
            reasons = "; ".join(str(reason) for reason in data.get("reasons") or ())
            states = filter(None, (data.get("before"), data.get("state")))
            change = f"GPU {data.get('index')}: {' → '.join(map(str, states))}"
            return f"{change} ({reasons})" if reasons else change
        case EventKind.PEOPLE:
            return str(data.get("reason") or "people came or went")
        case EventKind.RUN:
            return f"run {data.get('run')} of {data.get('entry')}: {data.get('reason')}"
        case EventKind.PROBLEM:
            return f"problem: {data.get('text') or data.get('what')}"
        case EventKind.SHORT_PROCESS:
            who = data.get("user") or data.get("entry") or "somebody"
            what = f"pid {data.get('pid')}, {data.get('command') or 'no longer known'}"
            return f"GPU {data.get('index')}: {who} computed briefly ({what})"
        case EventKind.OVERFLOW:
            return f"{data.get('dropped')} events were dropped: nobody recorded them"
        case _:
            return " ".join([kind, *_pairs(data)])


def _pairs(data: Row) -> Iterator[str]:
    for name, value in data.items():
        yield f"{name}={value}"
