"""The fleet as it is shown, kept up to date; what changed goes to all who watch.

A changed state goes out at once (20 ms are given to what comes together), readings once a second.
When much changes at once it goes out in slices, so that the loop is never held for long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from gleaner import __version__
from gleaner.bus.interface import Bus, Delivery
from gleaner.bus.messages import Beat, Drain, Pause, Recorded, Run, SchedulerBeat, Telemetry
from gleaner.fleet import EVERYTHING, FOLLOWED, Fleet
from gleaner.names import Called
from services.web.shown.board import Board, Change, Moment
from services.web.shown.hour import LastHour
from services.web.shown.overview import show_overview
from services.web.shown.show import show_run
from services.web.shown.view import Delta, Overview, ShownRun, Snapshot
from services.web.streaming.news import Newspaper
from services.web.streaming.stream import Stream

TICK_SECONDS = 1.0
TOGETHER_SECONDS = 0.02
"""What changes within this time of the first change goes out together."""
APART_SECONDS = 0.25
"""Nobody sees more than four changes a second, and each costs every watcher something."""
AGE_EACH = timedelta(seconds=0.5)
"""Looking for what grew old takes some milliseconds in a large fleet."""
SLICE_NODES = 20
"""So many nodes are worked out at a time: 10 ms or so. The rest follows in the next slice."""
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
        models: Mapping[str, str] | None = None,
    ) -> None:
        """`names` and `models` are what the administrator calls nodes and models."""
        self.fleet = Fleet()
        self._bus = bus
        self._clock = clock
        self._board = Board(Called(nodes=names or {}, models=models or {}))
        self._hour = LastHour()
        self._news = Newspaper()
        self._currency: dict[str, tuple[object, bool]] = {}
        self._wishes: tuple[tuple[Pause, ...], tuple[Drain, ...]] | None = None
        self._overview: Overview | None = None
        self._evictions: list[ShownRun] = []
        self._dirty: dict[str, None] = {}
        """Nodes of which a fact changed, the longest waiting first."""
        self._moved: dict[str, None] = {}
        """Nodes of which only readings changed."""
        self._looks_anew = True
        """Whether the overview may have changed."""
        self._had_scheduler = False
        self._aged_at: datetime | None = None
        self._flushed_at = 0.0
        self._pending: asyncio.TimerHandle | None = None
        self._stream = Stream(self._snapshot_json)
        for message_type in FOLLOWED:
            bus.subscribe(message_type, self._take)
        bus.subscribe(Recorded, self._take_recorded)
        bus.on_connection(self._connection)

    def now(self) -> datetime:
        """Return what time it is for all that is shown."""
        return self._clock()

    @property
    def connected(self) -> bool:
        """Whether the broker is there."""
        return self._bus.connected

    @property
    def place(self) -> str:
        """Where the stream is: what it told up to there is in every answer from now on."""
        return self._stream.place

    def moment(self) -> Moment:
        """Return everything as it is now; after a flood of changes some may still be to come."""
        self.flush()
        return self.told()

    def told(self) -> Moment:
        """Return everything as the stream told it; who looks often must not hasten what changes."""
        if self._overview is None:
            self.flush()
        assert self._overview is not None
        return self._board.moment(self._clock(), self._overview)

    def snapshot(self) -> Snapshot:
        """Return everything as it is now, readings in their places."""
        return self.moment().snapshot()

    def last_hour(self, nodes: Iterable[str]) -> dict[str, tuple[int | None, ...]]:
        """Return the utilization of the GPUs of some nodes, in sixty means of a minute."""
        now = self._clock()
        return {gpu: row for node in nodes for gpu, row in self._hour.of(node, now).items()}

    async def run(self) -> None:
        """Send what changed each second, until cancelled; then end all streams."""
        quiet = 0
        try:
            while True:
                await asyncio.sleep(TICK_SECONDS)
                quiet = 0 if self.flush() else quiet + 1
                if quiet >= QUIET_TICKS:
                    quiet = 0
                    self._send((Delta(at=self._clock()), {}))
        finally:
            self.close()

    def close(self) -> None:
        """End all streams."""
        if self._pending is not None:
            self._pending.cancel()
        self._stream.close()

    def events(
        self, last_event_id: str | None = None, *, packed: bool = False
    ) -> AsyncIterator[bytes]:
        """Return a stream: what was missed since an event, or a snapshot; then what changes."""
        stream = self._stream.packed if packed else self._stream.plain
        return stream(last_event_id)

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
        self._looks_anew = True

    def remember_hour(
        self, node: str, start: datetime, gpus: Mapping[str, Sequence[int | None]]
    ) -> None:
        """Take note of utilization from before we began to listen, by the minute."""
        self._hour.fill(node, start, gpus, self._clock())

    def flush(self) -> bool:
        """Work out what changed, a slice of it, and tell the watchers; return whether any did."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        now = self._clock()
        self._notice_age(now)
        self._notice_wishes()
        delta = self._delta(now)
        self._flushed_at = time.monotonic()
        if self._dirty or self._moved:
            self._flush_in(TOGETHER_SECONDS)
        if delta is None:
            return False
        self._send(delta)
        return True

    def _take(self, delivery: Delivery) -> None:
        now = self._clock()
        changed = self.fleet.take(delivery, now)
        if EVERYTHING in changed:
            self._looks_anew = True
            changed.discard(EVERYTHING)
            has_news = True
        else:
            has_news = bool(changed)
        if delivery.message_type is Telemetry:
            for node in changed:
                (self._moved if node in self._board else self._dirty)[node] = None
            if isinstance(delivery.message, Telemetry) and not delivery.retained:
                self._hour.take(delivery.message, now)
        else:
            self._dirty |= dict.fromkeys(changed)
        if isinstance(delivery.message, Run):
            self.remember(delivery.message)
        if has_news and delivery.message_type not in PATIENT:
            self._flush_soon()

    def _take_recorded(self, delivery: Delivery) -> None:
        recorded = delivery.message
        if isinstance(recorded, Recorded) and self._news.take(recorded, retained=delivery.retained):
            self._flush_soon()

    def _connection(self, connected: bool) -> None:  # noqa: ARG002 - it is asked when shown
        self._looks_anew = True
        self._flush_soon()

    def _flush_soon(self) -> None:
        """Flush in a moment, but not at once after the flush before."""
        since = time.monotonic() - self._flushed_at
        self._flush_in(max(TOGETHER_SECONDS, APART_SECONDS - since))

    def _flush_in(self, seconds: float) -> None:
        if self._pending is None:
            loop = asyncio.get_running_loop()
            self._pending = loop.call_later(seconds, self._flush_pending)

    def _flush_pending(self) -> None:
        self._pending = None
        self.flush()

    def _notice_age(self, now: datetime) -> None:
        """Growing old is no message: look for nodes and readings that have."""
        if self._aged_at is not None and abs(now - self._aged_at) < AGE_EACH:
            return
        self._aged_at = now
        for name, node in self.fleet.nodes.items():
            currency = (node.presence(now), node.current_telemetry(now) is not None)
            if self._currency.get(name) != currency:
                self._currency[name] = currency
                self._dirty[name] = None

    def _notice_wishes(self) -> None:
        """Pauses and drains of the scheduler stand on the nodes."""
        scheduler = self.fleet.scheduler
        wishes = (scheduler.pauses, scheduler.drains) if scheduler else None
        if wishes != self._wishes:
            self._wishes = wishes
            self._looks_anew = True
            self._dirty |= dict.fromkeys(self.fleet.nodes)

    def _delta(self, now: datetime) -> tuple[Delta, dict[str, Change]] | None:
        changes = self._changes(now)
        users, users_gone = self._board.users.changes()
        delta = Delta(
            at=now,
            overview=self._update_overview(now),
            gone=tuple(node for node, change in changes.items() if change is Change.GONE),
            users=users,
            users_gone=users_gone,
            news=self._news.due(self._stream.number + 1, now),
        )
        if not (changes or delta.overview or users or users_gone or delta.news):
            return None
        return delta, changes

    def _changes(self, now: datetime) -> dict[str, Change]:
        """Work out the next slice of what waits."""
        dirty, self._dirty = _split(self._dirty, SLICE_NODES)
        # Readings cost a fifth of facts.
        moved, self._moved = _split(self._moved, 5 * (SLICE_NODES - len(dirty)))
        found = {name: self._update(name, now) for name in dirty}
        found |= {name: self._read(name, now) for name in moved if name not in found}
        changes = {name: change for name, change in found.items() if change is not None}
        self._looks_anew |= any(change is not Change.READINGS for change in changes.values())
        return changes

    def _update(self, name: str, now: datetime) -> Change | None:
        known = self.fleet.node(name)
        if known is not None:
            change = self._board.show(known, now, self.fleet.scheduler)
            # Readings that are missing now stand in the overview.
            self._looks_anew |= change is not None
            return change
        self._currency.pop(name, None)
        self._hour.forget(name)
        return self._board.forget(name)

    def _read(self, name: str, now: datetime) -> Change | None:
        known = self.fleet.node(name)
        if known is None:
            return self._update(name, now)
        return self._board.read(known, now)

    def _update_overview(self, now: datetime) -> Overview | None:
        """Return the overview if it changed; a scheduler falls silent without a message."""
        has_scheduler = self.fleet.has_scheduler(now)
        if not self._looks_anew and has_scheduler == self._had_scheduler and self._overview:
            return None
        self._looks_anew = False
        self._had_scheduler = has_scheduler
        overview = show_overview(
            self._board.tallies.values(),
            connected=self._bus.connected,
            has_scheduler=has_scheduler,
            scheduler=self.fleet.scheduler,
            history_problem=self.fleet.history_problem,
            evictions=tuple(self._evictions),
            version=__version__,
        )
        if overview == self._overview:
            return None
        if self._overview and overview.history_problem != self._overview.history_problem:
            self._news.recorder_changed()
        self._overview = overview
        return overview

    def _snapshot_json(self) -> str:
        self.flush()
        assert self._overview is not None
        return self._board.snapshot_json(self._clock(), self._overview, self._news.all())

    def _send(self, delta: tuple[Delta, dict[str, Change]]) -> None:
        self._stream.send("delta", self._board.delta_json(*delta))


def _split(waiting: dict[str, None], number: int) -> tuple[list[str], dict[str, None]]:
    """Return the first so many, and the rest."""
    names = list(waiting)
    return names[:number], dict.fromkeys(names[number:])
