"""`gleaner events`: what happened, from the recorder's history or as it happens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gleaner.bus.interface import Delivery
from gleaner.bus.messages import Event, EventKind, HistoryAnswer
from gleaner.cli.connect import connected, connections, until_lost
from gleaner.cli.history.past import hear_inventories, is_simulated
from gleaner.cli.now.status import HEARD_SECONDS
from gleaner.cli.settings import Settings
from gleaner.client import Client, NeverRecorded, RequestFailed
from gleaner.fleet import Fleet
from gleaner.tell import tell_event

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Which events of the past: the newest that fit."""

    limit: int
    node: str | None = None
    kind: str | None = None
    user: str | None = None
    entry: str | None = None
    state: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the recorder has of them."""

    rows: Sequence[Row]
    """Oldest first."""
    asides: Sequence[str]
    """What a reader of the rows might take for granted, and is not so."""


async def history(settings: Settings, wish: Wish) -> Found:
    """Return the events that fit, each marked if it never really happened."""
    fleet = Fleet()
    async with connected(settings) as client:
        hear_inventories(client.bus, fleet)
        return await history_of(client, fleet, wish)


async def history_of(client: Client, fleet: Fleet, wish: Wish) -> Found:
    """Ask the recorder behind a client."""
    looked_back_to: list[datetime | None] = []

    def hear(answer: HistoryAnswer) -> None:
        looked_back_to.append(answer.looked_back_to)

    asked: dict[str, Any] = {**vars(wish), "limit": wish.limit + 1}
    async with aclosing(client.history(what="events", on_answer=hear, **asked)) as found:
        rows = [_marked(row, fleet) async for row in found if row["kind"] != EventKind.SAMPLES]
    return Found(
        rows=rows[wish.limit - 1 :: -1],
        asides=tuple(_asides(rows, wish, looked_back_to[-1])),
    )


async def follow(
    settings: Settings,
    *,
    node: str | None,
    say: Callable[[Row], None],
    before: Wish | None = None,
) -> None:
    """Pass on events as they happen, each once, until cancelled; brokers may come and go.

    `before`: what was recorded so far comes first.
    """
    following, levels, was_lost = Following(say), {"node": node} if node else {}, False
    async with aclosing(connections(settings)) as clients:
        async for client in clients:
            if was_lost:
                logger.warning("the broker is back")
            hear_inventories(client.bus, following.fleet)
            if node is not None and not was_lost:
                await _known(following.fleet, node)
            client.bus.subscribe(Event, following.take, **levels)
            if before is not None and not was_lost:
                await following.begin(history_of(client, following.fleet, before))
            lost = asyncio.create_task(until_lost(client), name="until lost")
            await asyncio.wait({lost, following.broken}, return_when=asyncio.FIRST_COMPLETED)
            lost.cancel()
            if following.broken.done():
                following.broken.result()
            was_lost = True
            logger.warning("the broker is lost; `gleaner events` shows what happens meanwhile")


class Following:
    """Passes on each event once; what happens while the past is asked for waits for it."""

    def __init__(self, say: Callable[[Row], None]) -> None:
        self._say = say
        self.fleet = Fleet()
        self._said: dict[str, int] = {}
        """By stream, the last sequence number."""
        self._waiting: list[Event] | None = None
        self.broken = asyncio.get_running_loop().create_future()
        """Raises what kept an event from being passed on: nobody reads any more."""

    async def begin(self, past: Awaitable[Found]) -> None:
        """Pass on the past first; without a recorder there is none to show."""
        self._waiting = []
        try:
            found = await past
            for line in found.asides:
                logger.warning("%s", line)
            for row in found.rows:
                self._said[row["stream"]] = max(row["sequence"], self._said.get(row["stream"], 0))
                self._say(row)
        except NeverRecorded:
            raise
        except RequestFailed as error:
            logger.warning("%s; only what happens from now on is shown", error)
        waiting, self._waiting = self._waiting, None
        for event in waiting:
            self._pass_on(event)

    def take(self, delivery: Delivery) -> None:
        """Hear of an event, maybe once more."""
        event = delivery.message
        if not isinstance(event, Event) or event.kind == EventKind.SAMPLES:
            return
        if self._waiting is None:
            self._pass_on(event)
        else:
            self._waiting.append(event)

    def _pass_on(self, event: Event) -> None:
        if event.sequence > self._said.get(event.stream, 0):
            self._said[event.stream] = event.sequence
            try:
                self._say(_marked(event.model_dump(mode="json"), self.fleet))
            except OSError as error:
                # The bus, which calls us, has nothing to do with it.
                if not self.broken.done():
                    self.broken.set_exception(error)


def describe(row: Row) -> str:
    """Return one event as a line: when, where, what."""
    at = str(row.get("at", ""))[:19].replace("T", " ")
    data = row.get("data")
    what = tell_event(str(row.get("kind", "")), data if isinstance(data, Mapping) else {})
    where = f"{row.get('node', '?')}{' (simulated)' if row.get('simulated') else ''}"
    return f"{at}  {where}  {what}"


def _asides(rows: Sequence[Row], wish: Wish, looked_back_to: datetime | None) -> Iterator[str]:
    if not rows:
        yield "nothing was recorded that fits"
    if len(rows) > wish.limit and wish.since is not None:
        yield f"there are more since then; these are the newest {wish.limit}, see -n"
    if looked_back_to is not None:
        back_to = f"{looked_back_to:%Y-%m-%d %H:%M} UTC"
        yield (
            f"searched back to {back_to} only: what is older is being indexed after an update of "
            "the recorder; ask again later"
        )


async def _known(fleet: Fleet, node: str) -> None:
    """Wait for a node's facts; one that nobody knows would be waited for without a word."""
    deadline = asyncio.get_running_loop().time() + HEARD_SECONDS
    while node not in fleet.nodes:
        if asyncio.get_running_loop().time() > deadline:
            there_are = ", ".join(fleet.nodes) or "none"
            raise RequestFailed(f"no node named {node!r} is known; there are: {there_are}")
        await asyncio.sleep(0.02)


def _marked(row: Row, fleet: Fleet) -> Row:
    """Say of an event whether it is simulated; a run may be, also on a real node."""
    data = row.get("data")
    is_of_run = isinstance(data, Mapping) and data.get("simulated") is True
    return {**row, "simulated": is_of_run or is_simulated(fleet, str(row.get("node")))}
