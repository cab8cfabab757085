"""Who wants which messages: the part that every bus has in common."""

from __future__ import annotations

import logging

from gleaner.bus.codec import DecodeError, decode
from gleaner.bus.interface import ConnectionHandler, Delivery, Handler, MalformedHandler
from gleaner.bus.message import Message, filter_of, match

logger = logging.getLogger(__name__)


class Subscriptions:
    """Handlers by kind of message and levels; decodes what comes in and hands it out."""

    def __init__(self) -> None:
        self._handlers: dict[type[Message], list[tuple[dict[str, str], Handler]]] = {}
        self._connection_handlers: list[ConnectionHandler] = []
        self._malformed_handlers: list[MalformedHandler] = []
        self._complained: set[str] = set()

    def add(self, message_type: type[Message], handler: Handler, levels: dict[str, str]) -> str:
        """Add a handler; return the topic filter it needs."""
        self._handlers.setdefault(message_type, []).append((levels, handler))
        return filter_of(message_type, levels)

    def add_connection(self, handler: ConnectionHandler) -> None:
        """Add a handler for connects and losses."""
        self._connection_handlers.append(handler)

    def add_malformed(self, handler: MalformedHandler) -> None:
        """Add a handler for payloads that are no messages."""
        self._malformed_handlers.append(handler)

    def filters(self) -> dict[str, type[Message]]:
        """Return the topic filters to subscribe to: none of them covered by another one."""
        wanted: dict[str, type[Message]] = {}
        for message_type, handlers in self._handlers.items():
            everything = filter_of(message_type, {})
            filters = {filter_of(message_type, levels) for levels, _ in handlers}
            for topic_filter in [everything] if everything in filters else sorted(filters):
                wanted[topic_filter] = message_type
        return wanted

    def hand_out(self, delivery: Delivery) -> bool:
        """Call every handler that wants this; tell whether there is any."""
        wanted = [
            handler
            for levels, handler in self._handlers.get(delivery.message_type, ())
            if levels.items() <= delivery.levels.items()
        ]
        for handler in wanted:
            handler(delivery)
        return bool(wanted)

    def receive(self, topic: str, payload: bytes, *, retained: bool) -> Delivery | None:
        """Decode what came from a broker; None, and a word about it, if it is no message.

        An empty payload stands for a retained fact that was cleared.
        """
        found = None if payload else match(topic)
        if found is not None:
            return Delivery(message_type=found[0], levels=found[1], message=None, retained=retained)
        try:
            message = decode(topic, payload)
        except DecodeError as error:
            self.complain(topic, payload, str(error))
            return None
        return Delivery(
            message_type=type(message), levels=message.levels(), message=message, retained=retained
        )

    def complain(self, topic: str, payload: bytes, why: str) -> None:
        """Report a payload that is no message; log each topic's first one only."""
        if topic not in self._complained and len(self._complained) < 1000:
            self._complained.add(topic)
            logger.warning("ignored a message: %s", why)
        for handler in self._malformed_handlers:
            handler(topic, payload, why)

    def connection(self, connected: bool) -> None:
        """Tell everybody that the broker came or went."""
        for handler in self._connection_handlers:
            handler(connected)
