"""The fleet as it is shown, kept up to date; what changed goes to all who watch.

A changed state goes out at once (20 ms are given to what comes together), readings once a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime

from gleaner import __version__
from gleaner.bus.interface import Bus, Delivery
from gleaner.bus.messages import Beat, Drain, Pause, Run, SchedulerBeat, Telemetry
from gleaner.fleet import EVERYTHING, FOLLOWED, Fleet
from services.web.show import (
    show_facts,
    show_overview,
    show_readings,
    show_run,
    with_readings,
)
from services.web.stream import Stream
from services.web.view import Delta, Node, Overview, Readings, ShownRun, Snapshot

TICK_SECONDS = 1.0
TOGETHER_SECONDS = 0.02
"""What changes within this time of the first change goes out together."""
QUIET_TICKS = 5
"""After so many ticks without a change an empty one is sent, so that a page knows it is live."""
KEPT_EVICTIONS = 10
PATIENT = (Beat, SchedulerBeat, Telemetry)
"""Kinds that wait for the tick."""


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
        self._evictions: list[ShownRun] = []
        self._dirty: set[str] = set()
        """Nodes of which a fact changed, or `EVERYTHING`."""
        self._moved: set[str] = set()
        """Nodes of which only readings changed."""
        self._had_scheduler = False
        self._flush_cost = 0.0
        self._pending: asyncio.TimerHandle | None = None
        self._stream = Stream(lambda: self.snapshot().model_dump_json())
        for message_type in FOLLOWED:
            bus.subscribe(message_type, self._take)
        bus.on_connection(self._connection)

    def now(self) -> datetime:
        """Return what time it is for all that is shown."""
        return self._clock()

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
                    self._send(Delta(at=self._clock()))
        finally:
            self.close()

    def close(self) -> None:
        """End all streams."""
        if self._pending is not None:
            self._pending.cancel()
        self._stream.close()

    def events(self, last_event_id: str | None = None) -> AsyncIterator[bytes]:
        """Return a stream: what was missed since an event, or a snapshot; then what changes."""
        return self._stream.events(last_event_id)

    @property
    def watchers(self) -> int:
        """How many streams are open."""
        return self._stream.watchers

    def remember(self, run: Run) -> None:
        """Take note of a run that was made to leave, to show how fast it did."""
        if not run.state.is_final or run.stages is None:
            return
        others = [one for one in self._evictions if one.run != run.run]
        newest_first = sorted([show_run(run), *others], key=lambda one: one.at, reverse=True)
        self._evictions = newest_first[:KEPT_EVICTIONS]
        self._dirty.add(EVERYTHING)

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
        self._send(delta)
        return True

    def _take(self, delivery: Delivery) -> None:
        changed = self.fleet.take(delivery, self._clock())
        if delivery.message_type is Telemetry:
            self._moved |= changed
        else:
            self._dirty |= changed
        if isinstance(delivery.message, Run):
            self.remember(delivery.message)
        if changed and delivery.message_type not in PATIENT:
            self._flush_soon()

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
        moved, self._moved = self._moved, set()
        scheduler = self.fleet.scheduler
        wishes = (scheduler.pauses, scheduler.drains) if scheduler else None
        if wishes != self._wishes:
            # Pauses and drains of the scheduler stand on the nodes.
            self._wishes = wishes
            dirty |= self.fleet.nodes.keys()
        dirty |= moved - self._facts.keys()
        changes = [self._update(name, now) for name in sorted(dirty - {EVERYTHING})]
        changes += [self._update_readings(name, now) for name in sorted(moved - dirty)]
        delta = Delta(
            at=now,
            overview=self._update_overview(now, look=bool(dirty)),
            nodes=tuple(change for change in changes if isinstance(change, Node)),
            readings=tuple(change for change in changes if isinstance(change, Readings)),
            gone=tuple(change for change in changes if isinstance(change, str)),
        )
        is_empty = not (delta.overview or delta.nodes or delta.readings or delta.gone)
        return None if is_empty else delta

    def _update(self, name: str, now: datetime) -> Node | Readings | str | None:
        """Work out a node anew; return what of it changed, or its name if it is gone."""
        known = self.fleet.node(name)
        if known is None:
            self._facts.pop(name, None)
            self._readings.pop(name, None)
            self._currency.pop(name, None)
            return name if self._shown.pop(name, None) else None
        facts = show_facts(known, now, self.fleet.scheduler, self._names)
        if facts == self._facts.get(name):
            return self._update_readings(name, now)
        self._facts[name], self._readings[name] = facts, show_readings(known, now)
        self._shown[name] = with_readings(facts, self._readings[name])
        return self._shown[name]

    def _update_readings(self, name: str, now: datetime) -> Readings | None:
        """Work out the readings of a node that is shown already; return them if they changed."""
        known = self.fleet.node(name)
        readings = show_readings(known, now) if known else None
        if readings is None or readings == self._readings[name]:
            return None
        self._readings[name] = readings
        self._shown[name] = with_readings(self._facts[name], readings)
        return readings

    def _update_overview(self, now: datetime, *, look: bool) -> Overview | None:
        """Return the overview if it changed; a scheduler falls silent without a message."""
        has_scheduler = self.fleet.snapshot(now).has_scheduler()
        if not look and has_scheduler == self._had_scheduler and self._overview:
            return None
        self._had_scheduler = has_scheduler
        overview = show_overview(
            self._facts.values(),
            connected=self._bus.connected,
            has_scheduler=has_scheduler,
            scheduler=self.fleet.scheduler,
            evictions=tuple(self._evictions),
            version=__version__,
        )
        if overview == self._overview:
            return None
        self._overview = overview
        return overview

    def _send(self, delta: Delta) -> None:
        self._stream.send("delta", delta.model_dump_json())
