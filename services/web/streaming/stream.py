"""One stream of events for all who watch; each is encoded once, however many they are.

Who comes back soon gets what was missed. Who comes back late, or cannot keep up, gets a snapshot.
Who takes gzip gets it: each event is compressed once as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from services.web.streaming import packed

KEPT_EVENTS = 120
"""For those who come back; about two minutes."""
QUEUED_EVENTS = 32
"""For those who are slow."""
LARGE_BYTES = 500_000
"""What is larger is compressed beside the loop: it would be held for 5 ms or more."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event as bytes."""

    plain: bytes

    @cached_property
    def packed(self) -> bytes:
        """The same as a piece of a gzip stream, made when somebody asks."""
        return packed.piece(self.plain)


class Stream:
    """Numbers and encodes events and hands them to all watchers."""

    def __init__(self, snapshot: Callable[[], str]) -> None:
        """`snapshot` returns everything as JSON; it may send what it found to have changed."""
        self._make_snapshot = snapshot
        self._watchers: set[_Watcher] = set()
        self._life = uuid.uuid4().hex[:8]
        self._sequence = 0
        self._kept: deque[tuple[int, Event]] = deque(maxlen=KEPT_EVENTS)
        self._snapshot: tuple[int, Event] | None = None
        self._packing = asyncio.Lock()

    @property
    def watchers(self) -> int:
        """How many watch."""
        return len(self._watchers)

    @property
    def number(self) -> int:
        """The number of the last event."""
        return self._sequence

    @property
    def place(self) -> str:
        """The identity of the last event; that of another life of this service differs."""
        return f"{self._life}-{self._sequence}"

    def send(self, kind: str, body: str) -> None:
        """Send an event to all watchers."""
        self._sequence += 1
        event = self._encode(kind, body)
        self._kept.append((self._sequence, event))
        for watcher in self._watchers:
            watcher.offer(event)

    def close(self) -> None:
        """End it for all watchers."""
        for watcher in self._watchers:
            watcher.close()

    async def packed(self, last_event_id: str | None = None) -> AsyncIterator[bytes]:
        """Yield the same as `plain` as a gzip stream."""
        yield packed.HEAD
        async for event in self._events(last_event_id):
            yield await self._pack(event)

    async def plain(self, last_event_id: str | None = None) -> AsyncIterator[bytes]:
        """Yield what was missed since an earlier event, or a snapshot; then what happens."""
        async for event in self._events(last_event_id):
            yield event.plain

    async def _events(self, last_event_id: str | None) -> AsyncIterator[Event]:
        missed = self._since(last_event_id) or [self._encoded_snapshot()]
        with self._watching() as watcher:
            for event in missed:
                yield event
            while not watcher.is_closed:
                next_event = await watcher.next()
                if next_event is not None:
                    yield next_event
                elif watcher.needs_snapshot:
                    snapshot = self._encoded_snapshot()
                    watcher.needs_snapshot = False
                    yield snapshot

    async def _pack(self, event: Event) -> bytes:
        if len(event.plain) < LARGE_BYTES:
            return event.packed
        # One at a time: who comes second finds the same snapshot packed.
        async with self._packing:
            return await asyncio.to_thread(getattr, event, "packed")

    def _since(self, last_event_id: str | None) -> list[Event]:
        """Return the events after one; none if they are not all here any more."""
        life, _, number = (last_event_id or "").rpartition("-")
        if life != self._life or not number.isdigit():
            return []
        last = int(number)
        oldest = self._kept[0][0] if self._kept else self._sequence + 1
        if not oldest - 1 <= last <= self._sequence:
            return []
        return [event for sequence, event in self._kept if sequence > last]

    def _encoded_snapshot(self) -> Event:
        """Return the snapshot event, encoded once for all who ask between two events."""
        if self._snapshot is None or self._snapshot[0] != self._sequence:
            body = self._make_snapshot()
            self._snapshot = (self._sequence, self._encode("snapshot", body))
        return self._snapshot[1]

    def _encode(self, kind: str, body: str) -> Event:
        text = f"id: {self.place}\nevent: {kind}\ndata: {body}\n\n"
        return Event(plain=text.encode())

    @contextlib.contextmanager
    def _watching(self) -> Iterator[_Watcher]:
        watcher = _Watcher()
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)


class _Watcher:
    """One open stream: a bounded queue of encoded events."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._something = asyncio.Event()
        self.is_closed = False
        self.needs_snapshot = False

    def offer(self, event: Event) -> None:
        """Queue an event; one too many, and a snapshot takes the place of them all."""
        if self.needs_snapshot:
            return
        if len(self._events) >= QUEUED_EVENTS:
            self._events.clear()
            self.needs_snapshot = True
        else:
            self._events.append(event)
        self._something.set()

    def close(self) -> None:
        """End the stream."""
        self.is_closed = True
        self._something.set()

    async def next(self) -> Event | None:
        """Return the next event; None when the queue ran over or the stream ends."""
        while not (self._events or self.needs_snapshot or self.is_closed):
            self._something.clear()
            await self._something.wait()
        if self.is_closed or self.needs_snapshot:
            return None
        return self._events.popleft()
