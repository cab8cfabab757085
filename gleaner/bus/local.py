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
from gleaner.bus.message import Message, Writer
from gleaner.bus.messages import Event, EventKind, Recorded
from gleaner.bus.outbox import Outbox
from gleaner.bus.subscriptions import Subscriptions

logger = logging.getLogger(__name__)

WINDOW = 100
"""Events sent at once before the broker has acknowledged them."""
STUCK_SECONDS = 15.0
"""A watermark that stands still for this long while more was sent: send again from there."""


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
        self._recorded = 0
        self._sent = 0
        self._heard_watermark = asyncio.Event()
        self._something_to_send = asyncio.Event()
        remote.subscribe(Recorded, self._on_recorded, node=node)
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
        self._remote.publish(message)

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
        self._something_to_send.set()

    async def deliver(self, message: Message) -> str | None:
        """See `Bus.deliver`."""
        return await self._remote.deliver(message)

    def clear(self, message_type: type[Message], **levels: str) -> None:
        """See `Bus.clear`."""
        self._remote.clear(message_type, **levels)
        self._last = {
            topic: message
            for topic, message in self._last.items()
            if not (type(message) is message_type and message.levels() == levels)
        }
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
        moved_at = asyncio.get_running_loop().time()
        moved_from = self._recorded
        while True:
            if not self._remote.connected:
                await self._wait(1.0)
                continue
            if not self._heard_watermark.is_set():
                # Waiting a moment for the retained watermark saves sending what is recorded.
                await self._wait_for(self._heard_watermark, 1.0)
                self._heard_watermark.set()
                self._sent = self._recorded
            now = asyncio.get_running_loop().time()
            if self._recorded != moved_from or self._sent <= self._recorded:
                moved_at, moved_from = now, self._recorded
            elif now - moved_at > STUCK_SECONDS:
                moved_at, self._sent = now, self._recorded
            batch = self._outbox.after(self._sent, WINDOW)
            if not batch:
                await self._wait(1.0)
                continue
            await self._send(batch)

    async def _send(self, batch: list[Event]) -> None:
        oldest = self._outbox.oldest
        refusals = await asyncio.gather(
            *(
                self._remote.deliver(event.model_copy(update={"oldest_sequence": oldest}))
                for event in batch
            )
        )
        if all(refusal is None for refusal in refusals):
            self._sent = batch[-1].sequence
        else:
            logger.debug("events were not taken: %s", next(filter(None, refusals)))
            await asyncio.sleep(1)

    def _on_connection(self, connected: bool) -> None:
        if connected:
            self._heard_watermark.clear()
        self._something_to_send.set()

    def _on_recorded(self, delivery: Delivery) -> None:
        if isinstance(delivery.message, Recorded):
            recorded = delivery.message.streams.get(self._outbox.stream, 0)
            # A recorder with a new database knows less than the last one; believe it.
            self._recorded = min(recorded, self._outbox.last)
            self._outbox.forget(self._recorded)
            self._heard_watermark.set()

    async def _wait(self, seconds: float) -> None:
        self._something_to_send.clear()
        await self._wait_for(self._something_to_send, seconds)

    async def _wait_for(self, event: asyncio.Event, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return
