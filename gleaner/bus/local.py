"""The node's own bus: delivered inside the process first, then kept, then forwarded.

Collector and runner of a node talk through it, in one process or in two. Order: local delivery,
then outbox, then MQTT, so that nothing between a fact and a signal waits for a disk or a socket.
What one of our own roles writes is never taken from the broker: there it may be stale.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from pydantic import JsonValue

from gleaner.bus.interface import Bus, ConnectionHandler, Delivery, Handler, MalformedHandler
from gleaner.bus.message import Message, Writer, topic_of
from gleaner.bus.messages import Availability, Event, EventKind, Recorded
from gleaner.bus.outbox import Outbox
from gleaner.bus.pace import Pace
from gleaner.bus.subscriptions import Subscriptions

logger = logging.getLogger(__name__)

BATCH = 10
"""Events prepared at once: some milliseconds at most, because the reflex runs in this loop."""
WATERMARK_SECONDS = 1.0
"""How long a new connection waits for the retained watermark: it saves sending what is recorded."""


class NodeBus:
    """A `Bus` for the collector and the runner of one node, or for one of them."""

    def __init__(
        self, node: str, boot_id: str, remote: Bus, outbox: Outbox, roles: frozenset[Writer]
    ) -> None:
        self.node = node
        self._boot_id = boot_id
        self._remote = remote
        self._outbox = outbox
        self._roles = roles
        self._local = Subscriptions()
        self._last: dict[str, Message] = {}
        self._sent: dict[str, int] = {}
        """Per stream, the last number on its way; it is not recorded yet."""
        self._pace = Pace()
        self._refusal: str | None = None
        self._heard_watermark = asyncio.Event()
        self._something_to_do = asyncio.Event()
        remote.subscribe(Recorded, self._on_recorded, node=node)
        remote.subscribe(Availability, self._on_recorder, service="recorder")
        remote.on_connection(self._on_connection)

    @property
    def connected(self) -> bool:
        """Whether the broker is there; the node does not need it to leave a GPU."""
        return self._remote.connected

    @property
    def unrecorded(self) -> int:
        """How many events wait for the recorder."""
        return len(self._outbox)

    def publish(self, message: Message) -> None:
        """See `Bus.publish`; local handlers have run when this returns."""
        self._deliver_here(message)
        self._remote.publish(message)

    def say_again(self) -> None:
        """Send all facts once more: somebody else has spoken in our name."""
        for message in self._last.values():
            self._remote.publish(message)

    def _deliver_here(self, message: Message) -> None:
        if message.contract.retain:
            self._last[message.topic] = message
        self._local.hand_out(
            Delivery(
                message_type=type(message),
                levels=message.levels(),
                message=message,
                retained=False,
            )
        )

    def record(self, kind: EventKind, data: dict[str, JsonValue]) -> None:
        """Keep an event until the recorder has it."""
        event = Event(
            node=self.node,
            stream="",
            sequence=0,
            oldest_sequence=0,
            kind=kind.value,
            data=data,
            boot_id=self._boot_id,
            at=datetime.now(UTC),
        )
        self._outbox.append(event)
        dropped = self._outbox.overflow()
        if dropped:
            logger.error("the outbox is full: %d events that nobody recorded were dropped", dropped)
            self.record(EventKind.OVERFLOW, {"dropped": dropped})
        self._something_to_do.set()

    async def deliver(self, message: Message) -> str | None:
        """See `Bus.deliver`; local handlers run first."""
        self._deliver_here(message)
        return await self._remote.deliver(message)

    def clear(self, message_type: type[Message], **levels: str) -> None:
        """See `Bus.clear`."""
        self._remote.clear(message_type, **levels)
        self._last.pop(topic_of(message_type, levels), None)
        self._local.hand_out(
            Delivery(message_type=message_type, levels=levels, message=None, retained=False)
        )

    def subscribe(self, message_type: type[Message], handler: Handler, **levels: str) -> None:
        """See `Bus.subscribe`; facts that were published here already are handed out at once."""
        self._local.add(message_type, handler, levels)
        if message_type.contract.writer not in self._roles:
            self._remote.subscribe(message_type, handler, **levels)
            return
        for message in list(self._last.values()):
            if type(message) is message_type and levels.items() <= message.levels().items():
                handler(
                    Delivery(
                        message_type=message_type,
                        levels=message.levels(),
                        message=message,
                        retained=True,
                    )
                )

    def on_connection(self, handler: ConnectionHandler) -> None:
        """See `Bus.on_connection`."""
        self._remote.on_connection(handler)

    def on_malformed(self, handler: MalformedHandler) -> None:
        """See `Bus.on_malformed`."""
        self._remote.on_malformed(handler)

    async def run(self) -> None:
        """Send events to the recorder until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                if not self._remote.connected:
                    await self._wait(1.0)
                    continue
                if not self._heard_watermark.is_set():
                    await _wait_for(self._heard_watermark, WATERMARK_SECONDS)
                    self._heard_watermark.set()
                    self._send_again()
                self._look_at_watermark()
                batch = self._outbox.after(self._sent, self._pace.window, BATCH)
                for event in batch:
                    group.create_task(self._send(event))
                    self._sent[event.stream] = event.sequence
                if batch:
                    await asyncio.sleep(0)
                else:
                    await self._wait(1.0)

    def _look_at_watermark(self) -> None:
        now = asyncio.get_running_loop().time()
        if not self._sent:
            self._pace = self._pace.nothing_on_its_way(now)
        elif self._pace.is_stuck(now):
            self._pace = self._pace.gave_up(now)
            self._send_again()

    def _send_again(self) -> None:
        """Go back to the oldest event that is not recorded."""
        self._sent.clear()

    async def _send(self, event: Event) -> None:
        # An outbox that outlived a new name of its node goes on under that name.
        refusal = await self._remote.deliver(event.model_copy(update={"node": self.node}))
        # What the broker did not take stays before the watermark, and is sent again with the rest.
        if refusal is not None and self._remote.connected and refusal != self._refusal:
            logger.warning("events wait in the outbox: %s", refusal)
        self._refusal = refusal

    def _on_connection(self, connected: bool) -> None:
        if connected:
            self._heard_watermark.clear()
        self._something_to_do.set()

    def _on_recorder(self, delivery: Delivery) -> None:
        """A recorder that came just now may have missed what a broker without it took from us."""
        said = delivery.message
        if isinstance(said, Availability) and said.state == "online" and not delivery.retained:
            self._send_again()
            self._something_to_do.set()

    def _on_recorded(self, delivery: Delivery) -> None:
        if not isinstance(delivery.message, Recorded):
            return
        if self._outbox.forget(delivery.message.streams):
            self._pace = self._pace.moved(asyncio.get_running_loop().time())
        for stream, recorded in delivery.message.streams.items():
            if self._sent.get(stream, recorded + 1) <= recorded:
                del self._sent[stream]
        self._heard_watermark.set()
        self._something_to_do.set()

    async def _wait(self, seconds: float) -> None:
        self._something_to_do.clear()
        await _wait_for(self._something_to_do, seconds)


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
