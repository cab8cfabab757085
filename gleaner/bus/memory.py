"""The in-memory twin of MQTT: a broker in this process, for tests and for simulated fleets.

It passes the conformance tests that mosquitto passes (tests/bus/test_conformance.py): retained
facts, wills, wildcard subscriptions, clearing, nothing delivered while disconnected. Payloads are
encoded and decoded as on the wire. It adds what a test wants to do to a network.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Self

from gleaner import __version__
from gleaner.bus.codec import encode
from gleaner.bus.interface import ConnectionHandler, Handler, MalformedHandler
from gleaner.bus.message import Message, topic_of
from gleaner.bus.messages import Availability
from gleaner.bus.subscriptions import Subscriptions


class MemoryBroker:
    """Keeps retained payloads and passes on what is published."""

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}
        self.buses: list[MemoryBus] = []
        self.copies = 1
        """2 delivers everything twice, as QoS 1 may."""

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Take any payload under any topic, as a broker does."""
        if retain and payload:
            self.retained[topic] = payload
        elif retain:
            self.retained.pop(topic, None)
        for bus in list(self.buses):
            for _ in range(self.copies):
                bus.take(topic, payload, retained=False)


class MemoryBus:
    """A client of a `MemoryBroker`; see `Bus`."""

    def __init__(self, broker: MemoryBroker, service: str = "test", instance: str = "1") -> None:
        self._broker = broker
        self._service = service
        self._instance = instance
        self._subscriptions = Subscriptions()
        self._facts: dict[str, bytes] = {}
        """Our retained facts; empty: cleared while offline."""
        self._connection = ""
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def connected(self) -> bool:
        """Whether `connect` was called last, and not `disconnect`."""
        return self in self._broker.buses

    async def __aenter__(self) -> Self:
        self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.connected:
            self._say("offline")
            self.disconnect(will=False)

    def connect(self) -> None:
        """Come online: subscriptions, birth, then our facts anew."""
        self._loop = asyncio.get_running_loop()
        self._connection = uuid.uuid4().hex
        self._broker.buses.append(self)
        for topic, payload in list(self._broker.retained.items()):
            self.take(topic, payload, retained=True)
        self._say("online")
        for topic, payload in list(self._facts.items()):
            self._broker.publish(topic, payload, retain=True)
            if not payload:
                del self._facts[topic]
        self._subscriptions.connection(True)

    def disconnect(self, *, will: bool = True) -> None:
        """Lose the connection; the broker then publishes our will."""
        self._broker.buses.remove(self)
        if will:
            self._say("offline")
        self._subscriptions.connection(False)

    def publish(self, message: Message) -> None:
        """See `Bus.publish`."""
        topic, payload, retain = message.topic, encode(message), message.contract.retain
        if retain:
            self._facts[topic] = payload
        if self.connected:
            self._broker.publish(topic, payload, retain=retain)

    async def deliver(self, message: Message) -> str | None:
        """See `Bus.deliver`."""
        self.publish(message)
        return None if self.connected else "the broker cannot be reached"

    def clear(self, message_type: type[Message], **levels: str) -> None:
        """See `Bus.clear`."""
        topic = topic_of(message_type, levels)
        self._facts[topic] = b""
        if self.connected:
            self._broker.publish(topic, b"", retain=True)
            del self._facts[topic]

    def subscribe(self, message_type: type[Message], handler: Handler, **levels: str) -> None:
        """See `Bus.subscribe`."""
        topic_filter = self._subscriptions.add(message_type, handler, levels)
        if self.connected:
            for topic, payload in list(self._broker.retained.items()):
                if _matches(topic_filter, topic):
                    self.take(topic, payload, retained=True)

    def on_connection(self, handler: ConnectionHandler) -> None:
        """See `Bus.on_connection`."""
        self._subscriptions.add_connection(handler)

    def on_malformed(self, handler: MalformedHandler) -> None:
        """See `Bus.on_malformed`."""
        self._subscriptions.add_malformed(handler)

    def take(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """Accept a payload from the broker, if a subscription wants it; hand it out soon."""
        filters = self._subscriptions.filters()
        if self._loop and any(_matches(wanted, topic) for wanted in filters):
            self._loop.call_soon(self._hand_out, topic, payload, retained)

    def _hand_out(self, topic: str, payload: bytes, retained: bool) -> None:
        delivery = self._subscriptions.receive(topic, payload, retained=retained)
        if delivery is not None:
            self._subscriptions.hand_out(delivery)

    def _say(self, state: str) -> None:
        message = Availability.model_validate_json(
            f'{{"service":"{self._service}","instance":"{self._instance}","state":"{state}",'
            f'"connection":"{self._connection}","version":"{__version__}","at":null}}'
        )
        self._broker.publish(message.topic, encode(message), retain=True)


def _matches(topic_filter: str, topic: str) -> bool:
    wanted, levels = topic_filter.split("/"), topic.split("/")
    return len(wanted) == len(levels) and all(
        one in ("+", other) for one, other in zip(wanted, levels, strict=True)
    )
