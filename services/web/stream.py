"""One stream of events for all who watch; each is encoded once, however many they are.

Who comes back soon gets what was missed. Who comes back late, or cannot keep up, gets a snapshot.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator

KEPT_EVENTS = 120
"""For those who come back; about two minutes."""
QUEUED_EVENTS = 32
"""For those who are slow."""


class Stream:
    """Numbers and encodes events and hands them to all watchers."""

    def __init__(self, snapshot: Callable[[], str]) -> None:
        """`snapshot` returns everything as JSON; it may send what it found to have changed."""
        self._make_snapshot = snapshot
        self._watchers: set[_Watcher] = set()
        self._life = uuid.uuid4().hex[:8]
        self._sequence = 0
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=KEPT_EVENTS)
        self._snapshot: tuple[int, bytes] | None = None

    @property
    def watchers(self) -> int:
        """How many watch."""
        return len(self._watchers)

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

    async def events(self, last_event_id: str | None = None) -> AsyncIterator[bytes]:
        """Yield what was missed since an earlier event, or a snapshot; then what happens."""
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

    def _since(self, last_event_id: str | None) -> list[bytes]:
        """Return the events after one; none if they are not all here any more."""
        life, _, number = (last_event_id or "").rpartition("-")
        if life != self._life or not number.isdigit():
            return []
        last = int(number)
        oldest = self._kept[0][0] if self._kept else self._sequence + 1
        if not oldest - 1 <= last <= self._sequence:
            return []
        return [event for sequence, event in self._kept if sequence > last]

    def _encoded_snapshot(self) -> bytes:
        """Return the snapshot event, encoded once for all who ask between two events."""
        if self._snapshot is None or self._snapshot[0] != self._sequence:
            body = self._make_snapshot()
            self._snapshot = (self._sequence, self._encode("snapshot", body))
        return self._snapshot[1]

    def _encode(self, kind: str, body: str) -> bytes:
        return f"id: {self._life}-{self._sequence}\nevent: {kind}\ndata: {body}\n\n".encode()

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
        self._events: deque[bytes] = deque()
        self._something = asyncio.Event()
        self.is_closed = False
        self.needs_snapshot = False

    def offer(self, event: bytes) -> None:
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

    async def next(self) -> bytes | None:
        """Return the next event; None when the queue ran over or the stream ends."""
        while not (self._events or self.needs_snapshot or self.is_closed):
            self._something.clear()
            await self._something.wait()
        if self.is_closed or self.needs_snapshot:
            return None
        return self._events.popleft()
