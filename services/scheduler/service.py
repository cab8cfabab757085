"""The shell: hear, step, remember, say. Everything that is decided is decided in `step`."""

from __future__ import annotations

import asyncio
import fcntl
import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from gleaner.bus.interface import Bus, Delivery
from gleaner.bus.messages import (
    Availability,
    BeatBody,
    Blockers,
    Desired,
    DesiredBody,
    Request,
    SchedulerBeat,
)
from gleaner.bus.mqtt import MqttBus
from gleaner.bus.signature import SignatureRefused, Signer, Verifier, load_or_make_key
from gleaner.runtime import Fatal, connection, keep_healthy
from gleaner.settings import SchedulerSettings
from services.scheduler import memory
from services.scheduler.events import (
    Connected,
    Decision,
    Disconnected,
    Event,
    Forgotten,
    Heard,
    HeardRival,
    HeardWish,
    More,
    Said,
    Superseded,
    Tick,
)
from services.scheduler.observe import HEARD
from services.scheduler.settings import SchedulerServiceSettings
from services.scheduler.step import step

logger = logging.getLogger(__name__)

TICKS_PER_BEAT = 5
FOREIGN = 1000


async def serve(settings: SchedulerServiceSettings) -> None:
    """Schedule until cancelled."""
    with _alone(settings.directory):
        signer = _signer(settings.key_file)
        logger.info("nodes obey this scheduler with scheduler_keys = [%r]", signer.public)
        bus = MqttBus(connection(settings.bus), "scheduler", "main")
        scheduler = Scheduler(bus, settings.scheduler, signer, settings.directory / "state.json")
        async with asyncio.TaskGroup() as group:
            group.create_task(scheduler.run(), name="scheduler")
            group.create_task(bus.run(), name="bus")
            group.create_task(
                keep_healthy(settings.node.data_directory, "scheduler", bus), name="health"
            )


class Scheduler:
    """One scheduler on one bus; the events are taken in one after the other."""

    def __init__(
        self,
        bus: Bus,
        policy: SchedulerSettings,
        signer: Signer,
        path: Path,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        tick_seconds: float = 1.0,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._tick_seconds = tick_seconds
        self._policy = policy
        self._signer = signer
        self._verifier = Verifier([signer.public])
        self._path = path
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._kept = memory.read(path)
        self._state = memory.remembered(self._kept, self._clock())
        self._beats: deque[str] = deque(maxlen=20)
        self._ticks = 0
        self._sequence = 0
        self._disk_is_fine = True
        self._foreign: set[str] = set()
        """Nodes for which somebody else wished something; each is said once."""

    async def run(self) -> None:
        """Hear, step, remember, say; until cancelled, or superseded by another scheduler."""
        self._listen()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tick(), name="ticks")
            while True:
                event = await self._events.get()
                self._state, said = step(self._state, event, self._policy)
                # First kept, then said: a term that was used must never be used again.
                await self._remember(event)
                for message in said:
                    self._say(message)
                if isinstance(event, Tick):
                    self._beat_in_turn(event.at)
                elif _is_newcomer(event) and self._state.is_settled:
                    self._beat(event.at)
                if self._state.is_settled and self._state.touched and self._events.empty():
                    self._events.put_nowait(More(at=self._clock()))

    def _listen(self) -> None:
        for message_type in HEARD:
            self._bus.subscribe(message_type, self._hear)
        self._bus.subscribe(Request, self._hear)
        self._bus.subscribe(Desired, self._hear_wish)
        self._bus.subscribe(SchedulerBeat, self._hear_beat)
        self._bus.on_connection(self._hear_connection)
        if self._bus.connected:
            self._hear_connection(True)

    def _hear(self, delivery: Delivery) -> None:
        self._events.put_nowait(Heard(delivery=delivery, at=self._clock()))

    def _hear_wish(self, delivery: Delivery) -> None:
        wish = delivery.message
        if not isinstance(wish, Desired):
            return
        try:
            body = self._verifier.verify(DesiredBody, wish.body, wish.key, wish.signature)
        except SignatureRefused:
            if wish.node not in self._foreign and len(self._foreign) < FOREIGN:
                self._foreign.add(wish.node)
                logger.warning(
                    "a wish for %s bears key %s and is not ours: is there another scheduler?",
                    wish.node,
                    wish.key,
                )
            return
        if body.node == wish.node:
            self._events.put_nowait(HeardWish(body=body, at=self._clock()))

    def _hear_beat(self, delivery: Delivery) -> None:
        beat = delivery.message
        if not isinstance(beat, SchedulerBeat) or delivery.retained or beat.body in self._beats:
            return
        try:
            body = self._verifier.verify(BeatBody, beat.body, beat.key, beat.signature)
        except SignatureRefused:
            rival = HeardRival(term=0, key=beat.key, at=self._clock())
        else:
            rival = HeardRival(term=body.term, at=self._clock())
        self._events.put_nowait(rival)

    def _hear_connection(self, connected: bool) -> None:
        at = self._clock()
        self._events.put_nowait(Connected(at=at) if connected else Disconnected(at=at))

    async def _tick(self) -> None:
        while True:
            self._events.put_nowait(Tick(at=self._clock()))
            await asyncio.sleep(self._tick_seconds)

    async def _remember(self, event: Event) -> None:
        if not memory.may_differ(self._state, self._kept):
            return
        if not self._disk_is_fine and not isinstance(event, Tick):
            return  # tried again once a second
        now = memory.memory_of(self._state)
        try:
            await asyncio.to_thread(memory.write, self._path, now)
        except OSError as error:
            if self._disk_is_fine:
                logger.error(
                    "%s cannot be written (%s): a restart would forget pauses and drains",
                    self._path,
                    error.strerror,
                )
            self._disk_is_fine = False
        else:
            if not self._disk_is_fine:
                logger.info("%s is written again", self._path)
            self._disk_is_fine, self._kept = True, now

    def _say(self, said: Said) -> None:
        match said:
            case DesiredBody():
                self._bus.publish(Desired(node=said.node, **self._signer.sign(said)))
            case Decision():
                logger.info("%s: %s", said.node, said.text)
            case Forgotten():
                self._bus.clear(Blockers, node=said.node)
                self._bus.clear(Desired, node=said.node)
            case Superseded():
                raise Fatal(f"{said.text}: two schedulers must not run, so this one stops")
            case _:
                self._bus.publish(said)

    def _beat_in_turn(self, at: datetime) -> None:
        """Renew the nodes' leases, from the loop that decides: if it hangs, they run out."""
        if not self._state.is_settled:
            self._ticks = 0
            return
        if self._ticks % TICKS_PER_BEAT == 0:
            self._beat(at)
        self._ticks += 1

    def _beat(self, at: datetime) -> None:
        self._sequence += 1
        body = BeatBody(
            term=self._state.term,
            generation=self._state.generation,
            sequence=self._sequence,
            at=at,
        )
        signed = self._signer.sign(body)
        self._beats.append(signed["body"])
        self._bus.publish(SchedulerBeat(**signed))


def _is_newcomer(event: Event) -> bool:
    """Whether a scheduler has just come, who must hear at once that another one is at work."""
    if not isinstance(event, Heard) or event.delivery.retained:
        return False
    said = event.delivery.message
    return isinstance(said, Availability) and (said.service, said.state) == ("scheduler", "online")


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Hold the directory for one scheduler: a second with the same key would be obeyed too."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # Private: whoever may open it may hold it, and keep us from starting.
        (directory / "lock").touch(mode=0o600)
        lock = (directory / "lock").open("w")
    except OSError as error:
        raise Fatal(f"{directory}: {error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Fatal(f"{directory} is in use by another scheduler") from error
        yield


def _signer(path: Path) -> Signer:
    try:
        return load_or_make_key(path)
    except (OSError, ValueError) as error:
        raise Fatal(f"the key {path} cannot be used: {error}") from error
