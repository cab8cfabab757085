"""The live view: the fleet as it is shown, and one stream of changes for all who watch.

A changed state goes out at once (20 ms are given to what comes together), readings once a second.
Every event is encoded once, whoever many watch. Who cannot keep up, or comes back after too long,
gets a snapshot instead of the changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime

from gleaner import __version__
from gleaner.bus.interface import Bus, Delivery
from gleaner.bus.messages import Beat, Drain, Pause, Run, SchedulerBeat, Telemetry
from gleaner.fleet import EVERYTHING, FOLLOWED, Fleet
from services.web.view import (
    Delta,
    Node,
    Overview,
    Readings,
    ShownRun,
    Snapshot,
    show_facts,
    show_overview,
    show_readings,
    show_run,
    with_readings,
)

TICK_SECONDS = 1.0
TOGETHER_SECONDS = 0.02
"""What changes within this time of the first change goes out together."""
QUIET_TICKS = 5
"""After so many ticks without a change an empty one is sent, so that a page knows it is live."""
KEPT_EVENTS = 120
"""For those who come back; about two minutes."""
QUEUED_EVENTS = 32
KEPT_EVICTIONS = 20
PATIENT = (Beat, SchedulerBeat, Telemetry)
"""Kinds that wait for the tick."""


class Watcher:
    """One open stream; a bounded queue of encoded events."""

    def __init__(self) -> None:
        self._events: deque[bytes] = deque()
        self._something = asyncio.Event()
        self._is_closed = False
        self.needs_snapshot = False

    def offer(self, event: bytes) -> None:
        """Queue an event; one too many and a snapshot takes the place of them all."""
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
        self._is_closed = True
        self._something.set()

    async def next(self) -> bytes | None:
        """Return the next event; None: the queue ran over, or (`closed`) the stream ends."""
        while not self._events and not self.needs_snapshot and not self._is_closed:
            self._something.clear()
            await self._something.wait()
        if self._is_closed or self.needs_snapshot:
            return None
        return self._events.popleft()

    @property
    def closed(self) -> bool:
        """Whether the stream ends."""
        return self._is_closed


class Live:
    """Keeps what is shown up to date and tells all watchers what changed."""

    def __init__(
        self,
        bus: Bus,
        names: Mapping[str, str] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.fleet = Fleet()
        self._bus = bus
        self._names = names or {}
        self._clock = clock
        self._facts: dict[str, Node] = {}
        self._readings: dict[str, Readings] = {}
        self._shown: dict[str, Node] = {}
        self._currency: dict[str, tuple[object, bool]] = {}
        self._wishes: tuple[tuple[Pause, ...], tuple[Drain, ...]] | None = None
        self._overview: Overview | None = None
        self._evictions: deque[ShownRun] = deque(maxlen=KEPT_EVICTIONS)
        self._dirty: set[str] = set()
        self._flush_cost = 0.0
        self._pending: asyncio.TimerHandle | None = None
        self._watchers: set[Watcher] = set()
        self._stream = uuid.uuid4().hex[:8]
        self._sequence = 0
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=KEPT_EVENTS)
        self._snapshot: tuple[int, bytes] | None = None
        for message_type in FOLLOWED:
            bus.subscribe(message_type, self._take)
        bus.on_connection(self._connection)

    @property
    def connected(self) -> bool:
        """Whether the broker is there."""
        return self._bus.connected

    def snapshot(self) -> Snapshot:
        """Return everything as it is now."""
        self.flush()
        assert self._overview is not None
        return Snapshot(
            at=self._clock(),
            overview=self._overview,
            nodes=tuple(self._shown[node] for node in sorted(self._shown)),
        )

    async def run(self) -> None:
        """Send what changed each second, until cancelled; then end all streams."""
        quiet = 0
        try:
            while True:
                await asyncio.sleep(TICK_SECONDS)
                quiet = 0 if self.flush() else quiet + 1
                if quiet >= QUIET_TICKS:
                    quiet = 0
                    self._send("delta", Delta(at=self._clock()))
        finally:
            self.close()

    def close(self) -> None:
        """End all streams."""
        if self._pending is not None:
            self._pending.cancel()
        for watcher in self._watchers:
            watcher.close()

    async def events(self, last_event_id: str | None = None) -> AsyncIterator[bytes]:
        """Yield encoded events: what was missed since an earlier one, or a snapshot; then live."""
        self.flush()  # so that nobody is sent again what the snapshot holds
        with self._watching() as watcher:
            missed = self._since(last_event_id)
            if missed is None:
                yield self._encoded_snapshot()
            else:
                for earlier in missed:
                    yield earlier
            while not watcher.closed:
                event = await watcher.next()
                if event is not None:
                    yield event
                elif watcher.needs_snapshot:
                    snapshot = self._encoded_snapshot()
                    watcher.needs_snapshot = False
                    yield snapshot

    def flush(self) -> bool:
        """Work out what changed and tell the watchers; return whether anything did."""
        started = time.monotonic()
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        now = self._clock()
        self._notice_age(now)
        delta = self._delta(now)
        self._flush_cost = time.monotonic() - started
        if delta is None:
            return False
        self._send("delta", delta)
        return True

    def _take(self, delivery: Delivery) -> None:
        self._dirty |= self.fleet.take(delivery, self._clock())
        run = delivery.message
        if isinstance(run, Run) and run.state.is_final and run.stages is not None:
            self._remember(show_run(run))
        if self._dirty and not issubclass(delivery.message_type, PATIENT):
            self._flush_soon()

    def _remember(self, run: ShownRun) -> None:
        others = [one for one in self._evictions if one.run != run.run]
        newest_first = sorted([run, *others], key=lambda one: one.at, reverse=True)
        self._evictions = deque(newest_first[:KEPT_EVICTIONS], maxlen=KEPT_EVICTIONS)

    def _connection(self, connected: bool) -> None:  # noqa: ARG002 - it is asked when shown
        self._dirty.add(EVERYTHING)
        self._flush_soon()

    def _flush_soon(self) -> None:
        """Flush in a moment; after a costly flush (a thousand nodes arriving) in a longer one."""
        if self._pending is None:
            wait = max(TOGETHER_SECONDS, 5 * self._flush_cost)
            self._pending = asyncio.get_running_loop().call_later(wait, self._flush_pending)

    def _flush_pending(self) -> None:
        self._pending = None
        self.flush()

    def _notice_age(self, now: datetime) -> None:
        """Growing old is no message: look for nodes and readings that have."""
        for name, node in self.fleet.nodes.items():
            currency = (node.presence(now), node.current_telemetry(now) is not None)
            if self._currency.get(name) != currency:
                self._currency[name] = currency
                self._dirty.add(name)

    def _delta(self, now: datetime) -> Delta | None:
        dirty, self._dirty = self._dirty, set()
        scheduler = self.fleet.scheduler
        wishes = (scheduler.pauses, scheduler.drains) if scheduler else None
        if wishes != self._wishes:
            # Pauses and drains of the scheduler stand on the nodes.
            self._wishes = wishes
            dirty |= self.fleet.nodes.keys()
        nodes, readings, gone = [], [], []
        for name in sorted(dirty - {EVERYTHING}):
            known = self.fleet.node(name)
            if known is None:
                if self._shown.pop(name, None) is not None:
                    gone.append(name)
                self._facts.pop(name, None)
                self._readings.pop(name, None)
                self._currency.pop(name, None)
                continue
            facts = show_facts(known, now, scheduler, self._names)
            read = show_readings(known, now)
            if facts != self._facts.get(name):
                self._facts[name], self._readings[name] = facts, read
                self._shown[name] = with_readings(facts, read)
                nodes.append(self._shown[name])
            elif read != self._readings[name]:
                self._readings[name] = read
                self._shown[name] = with_readings(facts, read)
                readings.append(read)
        overview = self._show_overview(now)
        changed = overview if overview != self._overview else None
        self._overview = overview
        if not (nodes or readings or gone or changed):
            return None
        return Delta(
            at=now,
            overview=changed,
            nodes=tuple(nodes),
            readings=tuple(readings),
            gone=tuple(gone),
        )

    def _show_overview(self, now: datetime) -> Overview:
        return show_overview(
            self._facts.values(),
            connected=self._bus.connected,
            has_scheduler=self.fleet.snapshot(now).has_scheduler(),
            scheduler=self.fleet.scheduler,
            evictions=tuple(self._evictions),
            version=__version__,
        )

    def _send(self, kind: str, what: Delta) -> None:
        self._sequence += 1
        event = self._encode(kind, what)
        self._kept.append((self._sequence, event))
        for watcher in self._watchers:
            watcher.offer(event)

    def _encoded_snapshot(self) -> bytes:
        """Return the snapshot event, encoded once for all who ask between two changes."""
        snapshot = self.snapshot()
        if self._snapshot is None or self._snapshot[0] != self._sequence:
            self._snapshot = (self._sequence, self._encode("snapshot", snapshot))
        return self._snapshot[1]

    def _encode(self, kind: str, what: Snapshot | Delta) -> bytes:
        body = what.model_dump_json()
        return f"id: {self._stream}-{self._sequence}\nevent: {kind}\ndata: {body}\n\n".encode()

    def _since(self, last_event_id: str | None) -> list[bytes] | None:
        """Return the events after one, or None if they are not all here any more."""
        stream, _, number = (last_event_id or "").rpartition("-")
        if stream != self._stream or not number.isdigit():
            return None
        last = int(number)
        oldest = self._kept[0][0] if self._kept else self._sequence + 1
        if not oldest - 1 <= last <= self._sequence:
            return None
        return [event for sequence, event in self._kept if sequence > last]

    @contextlib.contextmanager
    def _watching(self) -> Iterator[Watcher]:
        watcher = Watcher()
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
