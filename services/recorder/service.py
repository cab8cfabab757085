"""The recorder's shell: from the bus into the database, acknowledged after the commit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import UTC, datetime, timedelta

from gleaner.bus.interface import Bus, Delivery
from gleaner.bus.messages import Event, Inventory, Recorded, RecorderState
from gleaner.bus.mqtt import MqttBus
from gleaner.runtime import Fatal, connection, keep_healthy
from gleaner.settings import AccountingSettings
from services.recorder.answering import Answering
from services.recorder.daily_file import daily_files
from services.recorder.intake.admission import numbers_of, parts_of, set_aside
from services.recorder.intake.batch import DeadLetter, Number
from services.recorder.intake.inbox import Arrival, Inbox
from services.recorder.intake.latest import Latest
from services.recorder.settings import RecorderSettings
from services.recorder.storage.condition import Condition
from services.recorder.storage.failures import UNACCEPTABLE, UNREACHABLE, may_pass, words_of
from services.recorder.store import Store
from services.recorder.upkeep.limit import Limit
from services.recorder.upkeep.retention import Retention
from services.recorder.upkeep.searchable import make_searchable
from services.recorder.upkeep.tidy import Tidying
from services.recorder.values.local_time import machine_zone

logger = logging.getLogger(__name__)

RETRY_SECONDS = (0.5, 10.0)
WATERMARK_SECONDS = 1.0
RETENTION_SECONDS = 3600.0
ROLL_UP_SECONDS = 10.0
LOOK_SECONDS = 60.0
BEHIND = timedelta(minutes=1)
"""Samples of five minutes are summed up within seconds."""


async def serve(settings: RecorderSettings) -> None:
    """Record what arrives over MQTT and answer questions, until cancelled."""
    bus = MqttBus(connection(settings.bus), "recorder", "main", durable=True)
    retention = Retention(
        samples=timedelta(days=settings.database.sample_days),
        events=timedelta(days=settings.database.event_days),
        five_minutes=timedelta(days=settings.database.five_minute_days),
        hours=timedelta(days=settings.database.hour_days),
    )
    limit = settings.database.max_bytes
    store = Store(settings.database_url, settings.accounting.time_zone or machine_zone())
    try:
        if store.is_file:
            await store.open_or_begin_anew()
        tidying = Tidying(store, retention, Limit(max_bytes=limit) if limit else None)
        recorder = Recorder(bus, store, tidying, settings.accounting)
        daily = daily_files(bus, settings.accounting)
        async with asyncio.TaskGroup() as group:
            group.create_task(bus.run(), name="bus")
            group.create_task(recorder.run(), name="recorder")
            if daily is not None:
                group.create_task(daily.run(), name="daily files")
            group.create_task(
                keep_healthy(settings.node.data_directory, "recorder", bus), name="health"
            )
    except UNREACHABLE as error:
        raise Fatal(f"{store.name}: {words_of(error)}") from error
    finally:
        await store.close()


class Recorder:
    """One database behind one bus."""

    def __init__(
        self,
        bus: Bus,
        store: Store,
        tidying: Tidying,
        accounting: AccountingSettings | None = None,
    ) -> None:
        self._bus = bus
        self._inventories: dict[str, Inventory] = {}
        """What is not in the database yet."""
        self._store = store
        self._tidying = tidying
        self._inbox = Inbox()
        self._answering = Answering(bus, store, tidying, accounting or AccountingSettings())
        self._latest = Latest()
        self._touched: set[str] = set()
        self._touch = asyncio.Event()
        self._trouble = ""
        self._condition = Condition()
        self._said: RecorderState | None = None
        self._look_soon = asyncio.Event()
        self._waits_since: datetime | None = None
        self._behind_since: datetime | None = None
        bus.subscribe(Event, self._on_event)
        bus.subscribe(Inventory, self._on_inventory)
        bus.on_malformed(self._on_malformed)

    async def run(self) -> None:
        """Record, say so, answer and tidy up until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(self._answering.run(), name="history")
            await self._wait_for_database()
            # A broker that forgot its retained facts gets the watermarks again.
            self._say_recorded(self._store.nodes())
            group.create_task(self._notice_damage(), name="damage")
            group.create_task(self._record(), name="record")
            group.create_task(self._publish_watermarks(), name="watermarks")
            group.create_task(self._roll_up(), name="roll-ups")
            group.create_task(make_searchable(self._store), name="search")
            group.create_task(self._keep_looking(), name="condition")
            group.create_task(self._tidy_up(), name="retention")

    async def _wait_for_database(self) -> None:
        """A server may come later than we do; meanwhile events wait at the nodes."""
        wait, longest = RETRY_SECONDS
        while True:
            try:
                await self._store.open_if_closed()
                await self._tidying.recall()
            except (*UNREACHABLE, *UNACCEPTABLE) as error:
                if self._store.is_damaged(error):
                    await self._replace()
                    continue
                if not may_pass(error):
                    raise Fatal(f"{self._store.name}: {words_of(error)}") from error
                self._complain(error)
                await asyncio.sleep(wait)
                wait = min(longest, wait * 2)
            else:
                self._go_on()
                return

    def _on_event(self, delivery: Delivery) -> None:
        if isinstance(delivery.message, Event):
            self._inbox.add(Arrival(event=delivery.message, acknowledge=delivery.acknowledge))
        else:
            delivery.acknowledge()

    def _on_inventory(self, delivery: Delivery) -> None:
        delivery.acknowledge()
        if isinstance(delivery.message, Inventory):
            self._inventories[delivery.message.node] = delivery.message

    def _on_malformed(self, topic: str, payload: bytes, why: str) -> None:
        self._inbox.add_letter(
            DeadLetter(topic=topic, payload=payload, reason=why, received_at=_now())
        )

    async def _record(self) -> None:
        while True:
            arrivals, letters = await self._inbox.batch()
            now = _now()
            numbers, unfit = numbers_of(
                [arrival.event for arrival in arrivals],
                letters,
                self._store.has,
                self._tidying.retention(now),
                now,
            )
            await self._commit(numbers, letters + unfit)
            self._latest.committed((arrival.event for arrival in arrivals), _now())
            for arrival in arrivals:
                arrival.acknowledge()
            self._say_recorded({arrival.event.node for arrival in arrivals})
            self._say_recorded({number.node for number in numbers})

    async def _commit(self, numbers: list[Number], letters: list[DeadLetter]) -> None:
        """Write a batch, however long the database does not take it; split off what it refuses."""
        wait, longest = RETRY_SECONDS
        while True:
            try:
                await self._store.write(numbers, letters, now=_now())
            except (*UNREACHABLE, *UNACCEPTABLE) as error:
                if self._store.is_damaged(error):
                    await self._replace()
                elif may_pass(error):
                    self._complain(error)
                    await asyncio.sleep(wait)
                    wait = min(longest, wait * 2)
                elif parts := parts_of(numbers, letters):
                    for some, others in parts:
                        await self._commit(some, others)
                    return
                elif numbers and numbers[0].rows is not None:
                    numbers, letters = set_aside(numbers[0], words_of(error), _now())
                else:
                    # To end here would be to end again when it is repeated.
                    logger.error(
                        "%s: an unreadable message cannot even be kept aside: %s",
                        self._store.name,
                        words_of(error),
                    )
                    return
            else:
                if self._trouble:
                    self._go_on()
                return

    async def _notice_damage(self) -> None:
        """Examine the file when a reader finds what only a damaged one has; replace it if so."""
        while True:
            words = words_of(await self._store.suspected())
            self._trouble = f"{words}; the file is examined"
            logger.error("%s: %s", self._store.name, self._trouble)
            self._say_state()
            await self._replace()
            # A new file that could not be made is tried again.
            await self._wait_for_database()

    async def _replace(self) -> None:
        try:
            was_replaced = await self._store.replace_if_damaged()
        except UNREACHABLE as failure:
            self._complain(failure)
            await asyncio.sleep(RETRY_SECONDS[0])
        else:
            if was_replaced:
                self._trouble, self._condition = "", Condition()
                self._say_state()
                self._look_soon.set()

    def _complain(self, error: Exception) -> None:
        words = words_of(error)
        if words != self._trouble:
            logger.error(
                "%s: %s; nothing is recorded until it can be written, events wait at the nodes",
                self._store.name,
                words,
            )
            self._trouble = words
            self._say_state()

    def _go_on(self) -> None:
        if self._trouble:
            logger.warning("%s: can be written again; nothing was lost", self._store.name)
        self._trouble = ""
        self._say_state()
        self._look_soon.set()

    def _say_state(self) -> None:
        """Say how history is kept, unless that was said already."""
        now = _now()
        state = RecorderState(
            database="sqlite" if self._store.is_file else "postgresql",
            problem=f"{self._store.name}: {self._trouble}" if self._trouble else None,
            used_bytes=self._tidying.used_bytes,
            max_bytes=self._tidying.max_bytes,
            shortened={kept.value: at for kept, at in self._tidying.shortened.items()},
            oldest=dict(self._condition.oldest),
            kept_aside=self._store.kept_aside(),
            lost_events=self._condition.lost_events,
            unreadable_messages=self._condition.unreadable_messages,
            behind_since=self._behind_since,
            time_zone=self._store.zone,
            at=now,
        )
        if self._said is None or state != self._said.model_copy(update={"at": now}):
            self._said = state
            self._bus.publish(state)

    def _say_recorded(self, nodes: set[str]) -> None:
        self._touched |= nodes
        self._touch.set()

    async def _publish_watermarks(self) -> None:
        """Say how far each touched node is, at most once a second for each."""
        said: dict[str, float] = {}
        clock = asyncio.get_running_loop().time
        while True:
            await self._touch.wait()
            due = {
                node
                for node in self._touched
                if clock() - said.get(node, float("-inf")) >= WATERMARK_SECONDS
            }
            for node in due:
                self._bus.publish(
                    Recorded(
                        node=node,
                        streams=self._store.recorded(node),
                        latest=self._latest.of(node),
                        at=_now(),
                    )
                )
                said[node] = clock()
            self._touched -= due
            if self._touched:
                await asyncio.sleep(0.05)
            else:
                self._touch.clear()

    async def _roll_up(self) -> None:
        trouble = ""
        while True:
            try:
                await self._keep_inventories()
                while await self._store.roll_up(_now()):
                    self._notice_behind(waits=True)
                    # Between two small transactions the writer gets its turn.
                    await asyncio.sleep(0.005)
                trouble = ""
                self._notice_behind(waits=False)
            except (*UNREACHABLE, *UNACCEPTABLE) as error:
                words = words_of(error)
                if words != trouble:
                    logger.warning("%s: roll-ups wait: %s", self._store.name, words)
                trouble = words
                self._notice_behind(waits=True)
            await asyncio.sleep(ROLL_UP_SECONDS)

    def _notice_behind(self, *, waits: bool) -> None:
        """Say so where samples wait long to be summed up, and where they do not any more."""
        now = _now()
        self._waits_since = (self._waits_since or now) if waits else None
        is_behind = self._waits_since is not None and now - self._waits_since >= BEHIND
        if is_behind != (self._behind_since is not None):
            self._behind_since = self._waits_since if is_behind else None
            self._say_state()

    async def _keep_inventories(self) -> None:
        while self._inventories:
            node, inventory = next(iter(self._inventories.items()))
            await self._store.hear(inventory, _now())
            if self._inventories[node] is inventory:
                del self._inventories[node]

    async def _tidy_up(self) -> None:
        while True:
            try:
                # The first time this may take long.
                await self._tidying.tidy(_now())
            except (*UNREACHABLE, *UNACCEPTABLE) as error:
                logger.warning("%s: old rows stay for now: %s", self._store.name, words_of(error))
            self._look_soon.set()
            await asyncio.sleep(RETENTION_SECONDS)

    async def _keep_looking(self) -> None:
        """Look each minute, and at once when something passed; who writes tells what is wrong."""
        while True:
            self._look_soon.clear()
            try:
                self._condition = await self._store.condition()
                await self._tidying.measure()
            except (*UNREACHABLE, *UNACCEPTABLE) as error:
                logger.debug("%s: cannot be looked at: %s", self._store.name, words_of(error))
            self._say_state()
            # `wait_for` of Python 3.11 forgets that it was cancelled where both come at once.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._look_soon.wait()


def _now() -> datetime:
    return datetime.now(UTC)
